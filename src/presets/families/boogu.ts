/** Boogu-Image: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const BOOGU: Family = {
  id: "boogu",
  title: "Boogu-Image",
  detect: {
    all: ["double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight"],
  },
  keepBalanced: [
    "image_index_embedding",
    "ref_image_patch_embedder",
    "time_caption_embed",
    "x_embedder",
    "norm_out",
  ],
  keepConservative: ["noise_refiner", "ref_image_refiner", "context_refiner", "norm1.linear"],
  notes: "Many layers have columns that no rotation group of 256 divides.",
};
