/**
 * Cosmos-Predict2: how it is recognised and what is kept.
 * Names: `comfy/ldm/cosmos/predict2.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const COSMOS_PREDICT2: Family = {
  id: "cosmos_predict2",
  title: "Cosmos-Predict2",
  detect: {
    // Anima is the same model with an adapter for its text encoder
    all: ["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"],
    not: ["llm_adapter"],
  },
  keepBalanced: ["x_embedder", "t_embedder", "final_layer"],
  keepConservative: ["adaln_modulation*"],
  edges: { first: 1, last: 1 },
};
