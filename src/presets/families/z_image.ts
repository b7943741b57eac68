/** Z-Image: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const Z_IMAGE: Family = {
  id: "z_image",
  title: "Z-Image",
  detect: {
    all: ["cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"],
    shape: { "cap_embedder.1.weight[0]": 3840 },
  },
  keepBalanced: [
    "cap_embedder",
    "t_embedder",
    "x_embedder",
    "x_pad_token",
    "cap_pad_token",
    "final_layer",
    "adaLN_modulation",
    "clip_text_pooled_proj",
    "siglip_embedder",
  ],
  keepConservative: ["context_refiner", "noise_refiner"],
  edges: { first: 1, last: 3 },
  notes:
    "The official INT8 file quantizes adaLN and the refiners too (202 layers); without any keep-list images are visibly worse.",
};
