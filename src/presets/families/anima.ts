/** Anima: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const ANIMA: Family = {
  id: "anima",
  title: "Anima",
  detect: {
    all: ["blocks.0.mlp.layer1.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"],
  },
  // the three modulations of a block are adaln_modulation_self_attn, _cross_attn and _mlp
  keepBalanced: [
    "blocks.0",
    "blocks.1.adaln_modulation_*",
    "final_layer",
    "llm_adapter",
    "t_embedder",
    "x_embedder",
  ],
  keepConservative: ["adaln_modulation*", "blocks.1", "blocks.2"],
  notes: "426 of 554 layers are quantized.",
};
