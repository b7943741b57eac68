/**
 * OmniGen2: how it is recognised and what is kept.
 * Names: `comfy/ldm/omnigen/omnigen2.py` of ComfyUI 0.33.0, whose header is in tests/headers.
 */

import type { Family } from "../preset.ts";

export const OMNIGEN2: Family = {
  id: "omnigen2",
  title: "OmniGen2",
  detect: {
    // Lumina 2 in the diffusers layout has time_caption_embed too, Boogu-Image all of it
    all: ["time_caption_embed.timestep_embedder.linear_1.bias", "ref_image_refiner.0"],
    not: ["double_stream_layers"],
  },
  keepBalanced: [
    "image_index_embedding",
    "ref_image_patch_embedder",
    "time_caption_embed",
    "x_embedder",
    "norm_out",
  ],
  keepConservative: ["noise_refiner", "ref_image_refiner", "context_refiner", "norm1.linear"],
  notes: "No rotation group divides its 2520 columns: those layers get plain rows.",
};
