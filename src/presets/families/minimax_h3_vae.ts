/** MiniMax H3 video VAE: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const MINIMAX_H3_VAE: Family = {
  id: "minimax_h3_vae",
  title: "MiniMax H3 video VAE",
  detect: {
    all: ["decoder.transformer_blocks.0.scale1", "encoder.down.5.block.0.conv1.weight"],
  },
  // the blocks of the decoder are linear layers that ComfyUI loads quantized; nothing else of it is
  keepBalanced: ["encoder", "x_embedder", "proj_out", "quant_conv", "post_quant_conv"],
  edges: { first: 1, last: 1 },
  notes: "The only VAE with a quantized path in stock ComfyUI.",
};
