/**
 * MiniMax H3: how it is recognised and what is kept.
 * Names: `comfy/ldm/minimax/model.py` of ComfyUI 0.33.0, whose headers, full and pruned, are in tests/headers.
 */

import type { Family } from "../preset.ts";

export const MINIMAX_H3: Family = {
  id: "minimax_h3",
  title: "MiniMax H3",
  detect: {
    all: ["video_patch_proj.weight", "audio_patch_proj.weight"],
  },
  keepBalanced: [
    "video_patch_proj",
    "audio_patch_proj",
    "condition_proj",
    "time_embedder",
    "token_refiner",
    "adaln_proj",
    "final_layer",
    "adaln_t_table",
  ],
  edges: { first: 2, last: 2 },
  notes:
    "200 layers; the official full file also quantizes adaln_proj in groups of 64 (250). Pruned files have a table adaln_t_table in place of time_embedder.",
};
