/**
 * Mage-Flow: how it is recognised and what is kept.
 * Names: `comfy/ldm/mage_flow/model.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const MAGE_FLOW: Family = {
  id: "mage_flow",
  title: "Mage-Flow",
  detect: {
    // the names of Qwen-Image in other sizes
    all: ["txt_norm.weight", "proj_out.weight"],
    shape: { "txt_norm.weight[0]": 2560, "proj_out.weight[0]": 128 },
  },
  keepBalanced: ["time_text_embed", "img_in", "txt_in", "norm_out", "proj_out"],
  keepConservative: ["img_mod.1", "txt_mod.1"],
};
