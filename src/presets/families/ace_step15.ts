/**
 * ACE-Step 1.5: how it is recognised and what is kept.
 * Names: `comfy/ldm/ace/ace_step15.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const ACE_STEP15: Family = {
  id: "ace_step15",
  title: "ACE-Step 1.5",
  detect: {
    all: [
      "encoder.lyric_encoder.layers.0.input_layernorm.weight",
      "decoder.layers.0.self_attn_norm.weight",
    ],
  },
  // time_embed and time_embed_r; tokens of audio pass through tokenizer and detokenizer
  keepBalanced: [
    "time_embed*",
    "condition_embedder",
    "proj_in",
    "proj_out",
    "text_projector",
    "embed_tokens",
    "timbre_encoder",
    "tokenizer",
    "detokenizer",
  ],
  keepConservative: ["lyric_encoder"],
  edges: { first: 1, last: 1 },
};
