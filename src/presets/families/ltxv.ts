/** LTX-Video: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const LTXV: Family = {
  id: "ltxv",
  title: "LTX-Video",
  detect: {
    all: ["adaln_single.emb.timestep_embedder.linear_1.bias"],
    not: ["audio_adaln_single.linear.weight", "pos_embed.proj.bias"],
  },
  keepBalanced: [
    "patchify_proj",
    "adaln_single",
    "caption_projection",
    "proj_out",
    "scale_shift_table",
  ],
};
