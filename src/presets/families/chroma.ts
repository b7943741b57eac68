/** Chroma: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const CHROMA: Family = {
  id: "chroma",
  title: "Chroma",
  detect: {
    // the diffusers layout has the same guidance layer
    any: ["distilled_guidance_layer.norms.0", "distilled_guidance_layer.0.norms.0"],
    not: ["nerf_blocks.0.norm", "single_transformer_blocks"],
  },
  keepBalanced: ["distilled_guidance_layer", "final_layer", "img_in", "txt_in"],
};
