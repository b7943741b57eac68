/** Stable Diffusion 3: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const SD3: Family = {
  id: "sd3",
  title: "Stable Diffusion 3",
  detect: {
    all: ["joint_blocks.0.context_block.attn.qkv.weight"],
  },
  keepBalanced: [
    "x_embedder",
    "t_embedder",
    "y_embedder",
    "context_embedder",
    "pos_embed",
    "final_layer",
  ],
  notes: "By analogy with FLUX.1: no published keep-list is known.",
};
