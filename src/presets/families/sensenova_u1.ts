/**
 * SenseNova U1.5: how it is recognised and what is kept.
 * Names: the published modelling code, after which the header in tests/headers is made; stock ComfyUI 0.33.0 does
 * not have the model.
 */

import type { Family } from "../preset.ts";

export const SENSENOVA_U1: Family = {
  id: "sensenova_u1",
  title: "SenseNova U1.5",
  detect: {
    all: ["fm_modules", "language_model.model.layers.0.self_attn.q_proj_mot_gen.weight"],
  },
  // every layer has two halves of linear layers: one understands (q_proj, mlp), the other makes the
  // image (q_proj_mot_gen, mlp_mot_gen)
  keepBalanced: ["fm_modules", "vision_model*", "lm_head", "embed_tokens"],
  keepConservative: ["*_mot_gen"],
  edges: { first: 1, last: 1 },
};
