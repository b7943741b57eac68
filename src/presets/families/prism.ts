/**
 * Prism (video and audio): how it is recognised and what is kept.
 * Names: the published training code, built on the towers of MOVA, whose parts are named the same way. No header: stock
 * ComfyUI 0.33.0 does not have the model, and a fork has it with 3,735 tensors that are named nowhere one by one.
 */

import type { Family } from "../preset.ts";

export const PRISM: Family = {
  id: "prism",
  title: "Prism (video and audio)",
  detect: {
    // as it is trained, with the blocks of both towers fused, and as its parts are published
    any: ["fusion_blocks.0.video_block.self_attn.q", "dual_tower_bridge"],
    all: ["video_dit", "audio_dit"],
  },
  // two Wan towers and the bridge between them
  keepBalanced: [
    "patch_embedding",
    "text_embedding",
    "time_embedding",
    "time_projection",
    "head",
    "img_emb",
    "ref_conv",
    "dual_tower_bridge",
    "modulation",
  ],
  keepConservative: ["a2v_conditioner", "v2a_conditioner"],
  edges: { first: 1, last: 1 },
  notes: "Custom nodes load it, stock ComfyUI does not know it.",
};
