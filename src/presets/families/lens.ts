/** Lens: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const LENS: Family = {
  id: "lens",
  title: "Lens",
  detect: {
    all: [
      "transformer_blocks.0.attn.norm_added_q.weight",
      "transformer_blocks.0.img_mlp.w1.weight",
    ],
  },
  keepBalanced: [
    "time_text_embed",
    "img_in",
    "txt_in",
    "norm_out",
    "proj_out",
    "img_mod.1",
    "txt_mod.1",
  ],
};
