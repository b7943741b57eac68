/** Idle flags of the mode and the format. */

import { searchesScales } from "../../formats/outputs.ts";
import type { IdleFacts, IdleRule } from "./idle_rule.ts";

/** Flags that matter to quantized tensors only. */
const QUANTIZED_FLAGS = [
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

export function fp16Rules({ quantizes }: IdleFacts): IdleRule[] {
  const names = [...QUANTIZED_FLAGS, "calibration-data", "smoothquant"];
  return [{ when: !quantizes, names, why: FP16 }];
}

/** Formats other than INT8 have scales and groups of their own. */
export function ownScaleRules(
  { options: { output }, quantizes, isMixed, hasData }: IdleFacts,
): IdleRule[] {
  const isOther = quantizes && output !== "int8" && !isMixed;
  const why = `with --format ${output}: it is for INT8`;
  return [
    {
      when: isOther,
      names: [
        "scaling_mode",
        "block_size",
        "heur",
        "no-normalize-scales",
        "input_scale",
        "smoothquant",
      ],
      why,
    },
    {
      when: isOther && !searchesScales(output),
      // With data it says that nothing is compensated.
      names: hasData ? ["scale-search"] : ["scale-search", "simple"],
      why: `with --format ${output}, whose scales have one way to be chosen`,
    },
  ];
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
