/**
 * Qwen3-MoE text encoder: how it is recognised and what is kept.
 * Names: transformers' `Qwen3MoeForCausalLM`, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const TE_QWEN3_MOE: Family = {
  id: "te_qwen3_moe",
  title: "Qwen3-MoE text encoder",
  detect: {
    // experts in banks or one by one; plain and Hugging Face multimodal spellings
    any: [
      "model.layers.0.mlp.experts.gate_up_proj",
      "model.layers.0.mlp.experts.0.gate_proj.weight",
      "model.language_model.layers.0.mlp.experts.gate_up_proj",
      "model.language_model.layers.0.mlp.experts.0.gate_proj.weight",
    ],
    not: ["model.layers.0.self_attn.sinks"],
  },
  keepBalanced: [
    "lm_head",
    "embed_tokens",
    "visual",
    "*vision*",
    "*merger*",
    "*audio*",
    "mtp.fc",
    "in_proj_a",
    "in_proj_b",
  ],
  banks: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
  edges: { first: 1, last: 1 },
};
