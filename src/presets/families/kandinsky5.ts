/**
 * Kandinsky 5: how it is recognised and what is kept.
 * Names: `comfy/ldm/kandinsky5/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const KANDINSKY5: Family = {
  id: "kandinsky5",
  title: "Kandinsky 5",
  detect: {
    all: ["visual_transformer_blocks.0.cross_attention.key_norm.weight"],
    not: ["visual_transformer_blocks.0.va_modulation"],
  },
  // visual_modulation and text_modulation of every block; the output head is out_layer.out_layer, every
  // attention and feed-forward of a block ends in an out_layer of its own
  keepBalanced: ["*_embeddings", "*modulation", "out_layer.out_layer"],
  keepConservative: ["text_transformer_blocks"],
  edges: { first: 1, last: 1 },
};
