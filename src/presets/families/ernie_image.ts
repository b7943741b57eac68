/** ERNIE-Image: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const ERNIE_IMAGE: Family = {
  id: "ernie_image",
  title: "ERNIE-Image",
  detect: {
    all: ["layers.0.mlp.linear_fc2.weight"],
  },
  // final_norm and final_linear; adaLN_modulation is one layer shared by all blocks
  keepBalanced: ["time_embedding", "time_*", "x_embedder", "adaLN_*", "final_*", "text_proj"],
  edges: { first: 1, last: 1 },
};
