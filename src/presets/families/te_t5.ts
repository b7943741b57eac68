/** T5 text encoder: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const TE_T5: Family = {
  id: "te_t5",
  title: "T5 text encoder",
  detect: {
    all: ["encoder.block.0.layer.0.SelfAttention.k.weight"],
  },
  keepBalanced: ["shared", "relative_attention_bias", "layer_norm"],
  remove: ["decoder", "lm_head"],
  notes: "ComfyUI reads the encoder only.",
};
