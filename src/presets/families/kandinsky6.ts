/**
 * Kandinsky 6 (video and audio): how it is recognised and what is kept.
 * Names: published readers of the original checkpoint, after which the header in tests/headers is made; stock
 * ComfyUI 0.33.0 does not have the model.
 */

import type { Family } from "../preset.ts";

export const KANDINSKY6: Family = {
  id: "kandinsky6",
  title: "Kandinsky 6 (video and audio)",
  detect: {
    // the original names, and those that the repository on the Hub has
    any: ["visual_blocks.0.va_modulation", "visual_transformer_blocks.0.va_modulation"],
  },
  // va_modulation, av_modulation, visual_modulation, text_modulation: their errors multiply what a
  // whole block adds
  keepBalanced: [
    "*_embeddings",
    "*modulation",
    "out_layer.out_layer",
    "audio_outLayer",
    "audio_out_layer",
  ],
  keepConservative: ["video_text_transformer_blocks", "audio_text_transformer_blocks"],
  edges: { first: 1, last: 1 },
};
