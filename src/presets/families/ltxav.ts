/** LTX-2 (audio and video): how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const LTXAV: Family = {
  id: "ltxav",
  title: "LTX-2 (audio and video)",
  detect: {
    all: ["adaln_single.emb.timestep_embedder.linear_1.bias", "audio_adaln_single.linear.weight"],
  },
  keepBalanced: [
    "adaln_single",
    "audio_adaln_single",
    "prompt_adaln_single",
    "audio_prompt_adaln_single",
    "av_ca_*_adaln_single",
    "patchify_proj",
    "audio_patchify_proj",
    "proj_out",
    "audio_proj_out",
    "caption_projection",
    "audio_caption_projection",
    "scale_shift_table",
    "text_embedding_projection",
    "video_embeddings_connector",
    "audio_embeddings_connector",
    "vae",
    "audio_vae",
    "vocoder",
  ],
  keepConservative: ["to_gate_logits"],
  edges: { first: 2, last: 2 },
  notes:
    "Edges as in the developer's own FP8 files. Converters disagree on to_gate_logits. The header metadata holds the model's config and must be kept.",
};
