/** HunyuanVideo: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const HUNYUAN_VIDEO: Family = {
  id: "hunyuan_video",
  title: "HunyuanVideo",
  detect: {
    all: ["txt_in.individual_token_refiner.blocks.0.norm1.weight"],
  },
  keepBalanced: [
    "img_in",
    "txt_in",
    "time_in",
    "vector_in",
    "guidance_in",
    "final_layer",
    "vision_in",
    "byt5_in",
    "cond_type_embedding",
    "time_r_in",
  ],
  keepConservative: ["img_mod", "txt_mod", "modulation"],
};
