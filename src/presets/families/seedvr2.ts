/**
 * SeedVR2: how it is recognised and what is kept.
 * Names: `comfy/ldm/seedvr/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const SEEDVR2: Family = {
  id: "seedvr2",
  title: "SeedVR2",
  detect: {
    all: ["vid_in.proj.weight", "vid_out.proj.weight"],
    // weights of video and text apart, or shared by both
    any: ["blocks.0.attn.proj_qkv.vid", "blocks.0.attn.proj_qkv.all"],
  },
  keepBalanced: ["vid_in", "txt_in", "emb_in", "vid_out", "ada"],
  edges: { first: 1, last: 1 },
};
