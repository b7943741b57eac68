/** Stable Diffusion XL: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const SDXL: Family = {
  id: "sdxl",
  title: "Stable Diffusion XL",
  detect: {
    // Stable Video Diffusion and SD 2.1 unCLIP have label_emb too
    all: ["input_blocks.0.0.weight", "label_emb.0.0.weight"],
    not: ["input_blocks.1.1.time_stack"],
    notShape: [{ "label_emb.0.0.weight[1]": 1536 }, { "label_emb.0.0.weight[1]": 2048 }],
  },
  keepBalanced: ["time_embed", "label_emb", "emb_layers", "proj_in", "proj_out"],
  notes: "Convolutions stay: stock ComfyUI cannot load them quantized.",
};
