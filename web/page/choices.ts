/** Choices of the page in plain words, and their options. */

import type { LookOptions } from "../convert.ts";

/** One of several. */
export interface Choice {
  readonly id: string;
  readonly title: string;
  readonly words: string;
  readonly options: LookOptions;
}

/** How weights are stored. The first is the default. */
export const FORMATS: readonly Choice[] = [
  {
    id: "int8",
    title: "INT8 (recommended)",
    words: "8 bits per weight, half of BF16. Runs fast on NVIDIA cards from the RTX 20 series on.",
    options: {},
  },
  {
    id: "w6a8",
    title: "6 bits (w6a8)",
    words:
      "Smaller, a little less exact. For NVIDIA cards from the RTX 30 series and AMD from RX 6000 on.",
    options: { format: "w6a8" },
  },
  {
    id: "w4a8",
    title: "4 bits (w4a8)",
    words:
      "The smallest and the least exact: look at the expected error. For the same cards as 6 bits.",
    options: { format: "w4a8" },
  },
  {
    id: "nvfp4",
    title: "4 bits for Blackwell (nvfp4)",
    words: "The fastest on NVIDIA cards of the RTX 50 series; 4 bits (w4a8) with data loses less.",
    options: { format: "nvfp4" },
  },
  {
    id: "fp8",
    title: "FP8",
    words: "As large as INT8, and less exact. For NVIDIA cards from the RTX 40 series on.",
    options: { format: "fp8" },
  },
  {
    id: "fp16",
    title: "FP16",
    words: "16 bits: no smaller than BF16, for cards that cannot compute in BF16.",
    options: { format: "fp16" },
  },
];

/** How weights are rounded. The first is the default. */
export const METHODS: readonly Choice[] = [
  {
    id: "auto",
    title: "Rotated rows (recommended)",
    words:
      "Near-lossless, as in ComfyUI's own INT8 files. With calibration data it also compensates " +
      "rounding errors (GPTQ).",
    options: {},
  },
  {
    id: "plain",
    title: "Plain rows",
    words:
      "For versions of ComfyUI that do not know rotation. Two to four times the error, as a rule.",
    options: { scaling: "row" },
  },
  {
    id: "fast",
    title: "Rotated rows, fast",
    words: "Without the search for the best scale: faster, a little less exact.",
    options: { method: "simple", convrot: "auto" },
  },
];

/** Methods that fit a format: rotation is part of the formats of 4 and 6 bits. */
export function methodsFor(format: string): readonly Choice[] {
  if (format === "int8") return METHODS;
  if (format === "fp16") return [];
  return METHODS.filter(({ id }) => id === "auto");
}
