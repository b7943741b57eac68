/** FLUX.1: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const FLUX1: Family = {
  id: "flux1",
  title: "FLUX.1",
  detect: {
    all: ["double_blocks.0.img_attn.norm.key_norm", "img_in.weight"],
    not: ["double_stream_modulation_img.lin.weight", "distilled_guidance_layer"],
  },
  keepBalanced: ["img_in", "txt_in", "time_in", "vector_in", "guidance_in", "final_layer"],
  keepConservative: ["txt_attn", "img_mod", "txt_mod", "modulation"],
};
