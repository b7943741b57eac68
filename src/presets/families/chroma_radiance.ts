/** Chroma Radiance: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const CHROMA_RADIANCE: Family = {
  id: "chroma_radiance",
  title: "Chroma Radiance",
  detect: {
    all: ["nerf_blocks.0.norm"],
  },
  keepBalanced: [
    "distilled_guidance_layer",
    "nerf_blocks",
    "nerf_image_embedder",
    "nerf_final_layer_conv",
    "img_in_patch",
    "txt_in",
    "__x0__",
  ],
  keepConservative: ["img_attn.proj", "txt_attn.proj"],
};
