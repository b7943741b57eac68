/** The words of `--format`: what the weights of a conversion become. */

import type { LayerRecipe } from "../presets/preset.ts";
import type { Scheme } from "../quant/scheme.ts";

/** Formats of `--format` besides INT8 and floats. */
export type GridOutput = LevelOutput | "fp8" | "mxfp8" | "nvfp4";

/** Formats of integers besides INT8: errors are compensated on them. */
export type LevelOutput = "w6a8" | "w4a8" | "w4a4";

/** The same as a list. */
export const LEVEL_OUTPUTS: readonly LevelOutput[] = Object.freeze(["w6a8", "w4a8", "w4a4"]);

/** Stored form of a weight. */
export type WeightOutput = "int8" | GridOutput | "fp16";

/** The words of `--format`. */
export const OUTPUTS: readonly WeightOutput[] = Object.freeze([
  "int8",
  "w6a8",
  "w4a8",
  "w4a4",
  "fp8",
  "mxfp8",
  "nvfp4",
  "fp16",
]);

/** Columns that may share a scale in `w4a8` and `w6a8`. */
export const GROUP_SIZES: readonly number[] = Object.freeze([16, 32, 64, 128, 256]);

/** How a conversion writes a layer of floats that `output` means. */
export function floatRecipe(format: string, output: "fp8" | "mxfp8" | "nvfp4"): LayerRecipe {
  const grid = {
    output,
    groupSize: GROUP_SIZES[0]!,
    linearDtype: "int4",
    codebook: "default",
  } as const;
  return { format, convrotGroupSize: null, scaling: "tensor", grid };
}

/** Whether weights are put on a grid that is not that of INT8. */
export function isGridOutput(output: WeightOutput): output is GridOutput {
  return output !== "int8" && output !== "fp16";
}

const FLOAT_OUTPUTS = Object.freeze(
  { e4m3: "fp8", e4m3Groups: "mxfp8", e2m1Groups: "nvfp4" } as const,
);

/** Returns the word of `--format` for the grid of a scheme; null: it is INT8. */
export function outputOf({ levels, floats }: Scheme): GridOutput | null {
  if (floats !== undefined) return FLOAT_OUTPUTS[floats.kind];
  if (levels === undefined) return null;
  return levels.kind === "int4" ? "w4a4" : levels.bits === 4 ? "w4a8" : "w6a8";
}

/** Whether the scales of a format are searched, or rounded to nearest, as those of INT8 are. */
export function searchesScales(output: WeightOutput): boolean {
  return output === "int8" || output === "w4a4" || output === "nvfp4";
}

/** What `--help` says of them. */
export const OUTPUT_HELP: string =
  "format of weights: int8 (8 bits; runs on GPUs from Turing on), w6a8 and w4a8 (6.5 and 4.5 bits; from " +
  "Ampere and RDNA2 on), w4a4 (4 bits; from Turing on), fp8 (from Ada on), mxfp8 and nvfp4 (8.25 and 4.5 " +
  "bits; Blackwell), fp16 (cast)";
