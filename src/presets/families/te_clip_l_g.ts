/** CLIP-L/CLIP-G text encoder: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const TE_CLIP_L_G: Family = {
  id: "te_clip_l_g",
  title: "CLIP-L/CLIP-G text encoder",
  detect: {
    // Hugging Face and OpenCLIP spellings
    any: ["text_model.encoder.layers.0.mlp.fc1.weight", "transformer.resblocks.0.mlp.c_fc.weight"],
  },
  keepBalanced: ["*"],
  refuse: "stock ComfyUI has no quantized path for CLIP text encoders",
};
