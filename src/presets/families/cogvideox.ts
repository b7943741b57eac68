/**
 * CogVideoX: how it is recognised and what is kept.
 * Names: `comfy/ldm/cogvideo/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const COGVIDEOX: Family = {
  id: "cogvideox",
  title: "CogVideoX",
  detect: {
    all: ["blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight"],
  },
  keepBalanced: [
    "patch_embed",
    "time_embedding_*",
    "ofs_embedding_*",
    "norm_out",
    "proj_out",
  ],
  keepConservative: ["norm1.linear", "norm2.linear"],
  edges: { first: 1, last: 1 },
};
