/** Ideogram 4: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const IDEOGRAM4: Family = {
  id: "ideogram4",
  title: "Ideogram 4",
  detect: {
    all: ["embed_image_indicator.weight"],
  },
  keepBalanced: [
    "embed_image_indicator",
    "t_embedding",
    "llm_cond_proj",
    "adaln_proj",
    "final_layer",
    "input_proj",
  ],
  keepConservative: ["feed_forward.w2"],
};
