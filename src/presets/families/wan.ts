/** Wan 2.1/2.2: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const WAN: Family = {
  id: "wan",
  title: "Wan 2.1/2.2",
  detect: {
    all: ["head.modulation"],
  },
  keepBalanced: [
    "patch_embedding",
    "text_embedding",
    "time_embedding",
    "time_projection",
    "head",
    "img_emb",
    "ref_conv",
    "control_adapter",
    "face_adapter",
    "face_encoder",
    "motion_encoder",
    "pose_patch_embedding",
    "casual_audio_encoder",
    "cond_encoder",
    "frame_packer",
    "trainable_cond_mask",
    "audio_injector",
  ],
};
