/** Llama/Qwen/Gemma/Mistral text encoder: how it is recognised and what is kept. */

import type { Family } from "../preset.ts";

export const TE_LLAMA_QWEN_GEMMA_MISTRAL: Family = {
  id: "te_llama_qwen_gemma_mistral",
  title: "Llama/Qwen/Gemma/Mistral text encoder",
  detect: {
    // plain, Hugging Face multimodal, and linear-attention (Qwen 3.5) spellings; not the models that
    // generate with a language model inside
    any: [
      "model.layers.0.self_attn.q_proj.weight",
      "model.language_model.layers.0.self_attn.q_proj.weight",
      "language_model.model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.linear_attn.in_proj_qkv.weight",
      "model.language_model.layers.0.linear_attn.in_proj_qkv.weight",
    ],
    not: ["t_embedder1", "model.t_embedder1", "fm_modules", "vae2llm", "time_embedder"],
  },
  // vision_model, vision_tower, embed_vision; audio_tower, embed_audio; deepstack_merger_list
  keepBalanced: [
    "lm_head",
    "embed_tokens",
    "visual",
    "*vision*",
    "multi_modal_projector",
    "*merger*",
    "*audio*",
    "per_layer_input_gate",
    "per_layer_projection",
    "mtp.fc",
    "in_proj_a",
    "in_proj_b",
  ],
  edges: { first: 1, last: 1 },
};
