/** Lumina Image 2.0: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const LUMINA2: Family = {
  id: "lumina2",
  title: "Lumina Image 2.0",
  detect: {
    all: ["cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"],
    shape: { "cap_embedder.1.weight[0]": 2304 },
  },
  keepBalanced: [
    "cap_embedder",
    "t_embedder",
    "x_embedder",
    "final_layer",
    "adaLN_modulation",
    "clip_text_pooled_proj",
  ],
  keepConservative: ["context_refiner", "noise_refiner"],
};
