/** Ming (Bailing) text encoder: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const TE_MING: Family = {
  id: "te_ming",
  title: "Ming (Bailing) text encoder",
  detect: {
    all: ["thinker.layers.1.attention.query_key_value.weight"],
    any: ["thinker.layers.1.mlp.experts.gate_up_proj", "thinker.layers.1.mlp.image_gate"],
  },
  keepBalanced: [
    "embed_tokens",
    "vision",
    "linear_proj",
    "query_tokens",
    "proj_in",
    "proj_out",
    "proj_directvlm",
  ],
  keepConservative: ["connector"],
  banks: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
  edges: { first: 1, last: 1 },
};
