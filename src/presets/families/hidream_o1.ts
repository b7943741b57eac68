/** HiDream-O1: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const HIDREAM_O1: Family = {
  id: "hidream_o1",
  title: "HiDream-O1",
  detect: {
    all: ["t_embedder1.mlp.0.weight", "x_embedder.proj1.weight"],
  },
  // every embedding module: token, patch and position embeddings of both towers
  keepBalanced: ["*embed*", "t_embedder1", "x_embedder", "language_model.layers.35.mlp"],
};
