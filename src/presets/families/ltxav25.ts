/**
 * LTX-2.5 (audio and video): how it is recognised and what is kept.
 * Names: `comfy/ldm/lightricks/av_model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";
import { LTXAV } from "./ltxav.ts";

export const LTXAV25: Family = {
  id: "ltxav25",
  title: "LTX-2.5 (audio and video)",
  detect: {
    all: [
      "adaln_single.emb.timestep_embedder.linear_1.bias",
      "audio_adaln_single.linear.weight",
      "keyframes_abs_pos_embedding",
    ],
  },
  keepBalanced: [...LTXAV.keepBalanced, "keyframes_abs_pos_embedding"],
  // the official selection: blocks 2 to 45, their to_gate_logits included
  edgesBalanced: { first: 2, last: 2 },
  keepConservative: ["to_gate_logits"],
  notes:
    "Blocks and gates as in the official file. The header metadata holds the model's config and must be kept.",
};
