/**
 * gpt-oss text encoder: how it is recognised and what is kept.
 * Names: `comfy/text_encoders/gpt_oss.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const TE_GPT_OSS: Family = {
  id: "te_gpt_oss",
  title: "gpt-oss text encoder",
  detect: {
    all: ["layers.0.self_attn.sinks"],
    any: ["layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.gate_up_proj_blocks"],
  },
  // the routers of the experts are kept in every family
  keepBalanced: ["lm_head", "embed_tokens"],
  banks: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
  edges: { first: 1, last: 1 },
};
