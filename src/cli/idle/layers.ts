/** Idle flags of which layers are converted, and of LoRAs merged into them. */

import type { IdleFacts, IdleRule } from "./idle_rule.ts";

export function layerRules({ options, copiesModes }: IdleFacts): IdleRule[] {
  const { preset, merge, layers } = options;
  return [
    {
      when: merge === null,
      names: ["merge-lora-scale", "merge-lora-dampen"],
      why: "without --merge-lora",
    },
    {
      when: merge?.paths.length === 1,
      names: ["merge-lora-dampen"],
      why: "with one LoRA: only those after the first are dampened",
    },
    {
      when: preset.kind === "none" || preset.kind === "documented" || copiesModes,
      names: ["tier"],
      why: "without a model family: the layers to keep are chosen another way",
    },
    {
      when: layers === null || layers.config === null,
      names: ["fullmatch"],
      why: "without --layer-config",
    },
  ];
}
