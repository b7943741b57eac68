/** Qwen-Image: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const QWEN_IMAGE: Family = {
  id: "qwen_image",
  title: "Qwen-Image",
  detect: {
    // Lens has txt_norm too; Mage-Flow differs in its sizes only
    all: ["txt_norm.weight"],
    not: ["txtfusion", "transformer_blocks.0.img_mlp.w1.weight"],
    notShape: [{ "txt_norm.weight[0]": 2560, "proj_out.weight[0]": 128 }],
  },
  keepBalanced: ["time_text_embed", "img_in", "txt_in", "norm_out", "proj_out"],
  keepConservative: ["transformer_blocks.0.img_mod.1", "img_mod.1"],
  notes: "The official INT8 file quantizes every img_mod.1 and txt_mod.1, block 0 included.",
};
