/**
 * JoyImage: how it is recognised and what is kept.
 * Names: `comfy/ldm/joyimage/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const JOYIMAGE: Family = {
  id: "joyimage",
  title: "JoyImage",
  detect: {
    all: [
      "double_blocks.0.attn.img_attn_qkv.weight",
      "double_blocks.0.attn.img_attn_q_norm.weight",
      "condition_embedder.time_embedder.linear_1.weight",
      "img_in.weight",
    ],
  },
  keepBalanced: ["img_in", "condition_embedder", "proj_out", "img_mod", "txt_mod"],
  keepConservative: ["txt_attn_qkv", "txt_attn_proj"],
  edges: { first: 1, last: 1 },
};
