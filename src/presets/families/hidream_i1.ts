/**
 * HiDream-I1: how it is recognised and what is kept.
 * Names: `comfy/ldm/hidream/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const HIDREAM_I1: Family = {
  id: "hidream_i1",
  title: "HiDream-I1",
  detect: {
    all: ["caption_projection.0.linear.weight"],
  },
  // the gates of the experts (ff_i.gate) are kept in every family
  keepBalanced: [
    "t_embedder",
    "p_embedder",
    "x_embedder",
    "final_layer",
    "caption_projection",
  ],
  keepConservative: ["adaLN_modulation"],
  edges: { first: 1, last: 1 },
};
