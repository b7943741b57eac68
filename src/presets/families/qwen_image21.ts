/** Qwen-Image 2.1: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const QWEN_IMAGE21: Family = {
  id: "qwen_image21",
  title: "Qwen-Image 2.1",
  detect: {
    all: [
      "txt_in.text_norm.weight",
      "modulation.1.weight",
      "transformer_blocks.0.attn.norm_q.weight",
    ],
  },
  // the time embedding as in Qwen-Image; the official file keeps it too
  keepBalanced: ["time_text_embed", "txt_in", "img_in", "modulation", "proj_out", "norm_out"],
  notes:
    "The official INT8 file quantizes 192 layers, modulation not among them. ComfyUI fuses gate and up projections only with per-row scales.",
};
