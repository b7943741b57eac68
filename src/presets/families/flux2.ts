/** FLUX.2: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const FLUX2: Family = {
  id: "flux2",
  title: "FLUX.2",
  detect: {
    all: ["double_stream_modulation_img.lin.weight", "double_blocks.0.img_attn.norm.key_norm"],
  },
  keepBalanced: [
    "img_in",
    "txt_in",
    "time_in",
    "guidance_in",
    "final_layer",
    "double_stream_modulation_img",
    "double_stream_modulation_txt",
    "single_stream_modulation",
  ],
  keepConservative: ["txt_attn"],
};
