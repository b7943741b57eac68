/** Idle flags of the mode and the format. */

import type { IdleFacts, IdleRule } from "./idle_rule.ts";

/** Flags that matter to quantized tensors only. */
const INT8_FLAGS = [
  "scaling_mode",
  "block_size",
  "convrot",
  "scale-search",
  "simple",
  "heur",
  "comfy_quant",
  "full_precision_matrix_mult",
  "save-quant-metadata",
  "no-normalize-scales",
  "input_scale",
  "report-quality",
  "quality-threshold",
] as const;

const FP16 = "with --fp16, which quantizes nothing";

export function fp16Rules({ isInt8 }: IdleFacts): IdleRule[] {
  return [{ when: !isInt8, names: [...INT8_FLAGS, "calibration-data", "smoothquant"], why: FP16 }];
}

export function formatRules({ options, mode, isMixed, copiesModes }: IdleFacts): IdleRule[] {
  const { scaling } = mode;
  const rotates = mode.convrot !== "off";
  return [
    {
      when: scaling !== "block" && scaling !== "group" && !copiesModes && !isMixed,
      names: ["block_size"],
      why: `with ${scaling} scaling; it applies only to --scaling_mode block`,
    },
    {
      when: (scaling === "row" || scaling === "tensor") && !rotates && !copiesModes && !isMixed,
      names: ["heur"],
      why: `with ${scaling} scaling without rotation, which fits every shape`,
    },
    {
      when: scaling !== "tensor" && !options.inputScale && !copiesModes && !isMixed,
      names: ["no-normalize-scales"],
      why: `with ${scaling} scaling, which has no scalar scales`,
    },
    {
      when: copiesModes && !isMixed,
      names: ["scaling_mode", "convrot"],
      why: "with --like, which copies both from its file",
    },
    {
      when: !options.comfyQuant,
      names: ["full_precision_matrix_mult"],
      why: "with --no-comfy-quant: it is an entry of the marker",
    },
  ];
}
