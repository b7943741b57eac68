/** HunyuanImage 3: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const HUNYUAN_IMAGE3: Family = {
  id: "hunyuan_image3",
  title: "HunyuanImage 3",
  detect: {
    any: [
      "model.layers.0.mlp.experts_gate_up_proj",
      "layers.0.mlp.experts_gate_up_proj",
      "model.layers.0.mlp.gate.wg.weight",
      "layers.0.mlp.gate.wg.weight",
    ],
  },
  keepBalanced: [
    "wte",
    "lm_head",
    "patch_embed",
    "final_layer",
    "time_embed*",
    "timestep_emb",
    "guidance_emb",
    "timestep_r_emb",
    "vision_model",
    "vision_aligner",
  ],
  banks: ["mlp.experts_gate_up_proj", "mlp.experts_down_proj"],
  edges: { first: 1, last: 1 },
};
