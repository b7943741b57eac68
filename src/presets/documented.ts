/**
 * The documented presets, one per flag (`--t5xxl`, `--flux2`, ...), exactly as the manual lists them:
 * substrings of the full tensor name. They are coarser than the families, and stay as documented.
 */

import { UsageError } from "../core/errors.ts";
import { nonCandidateReason } from "./candidates.ts";
import { suggestion } from "./suggest.ts";
import type { LayerRule } from "./preset.ts";

/** One documented preset. Substrings of the full tensor name. */
export interface DocumentedPreset {
  /** The kind of model that it is for. */
  readonly category: "text" | "diffusion" | "video" | "image";
  /** Kept in the source dtype. */
  readonly exclude?: readonly string[];
  /** Kept in the source dtype, because they need the precision. */
  readonly highprec?: readonly string[];
  /** Dropped from the output. */
  readonly remove?: readonly string[];
}

/** Shared by the text encoders and Wan: one list covers norms, embeddings and conditioning stems. */
const COMMON_EXCLUDE = [
  "norm",
  "bias",
  "embed_tokens",
  "lm_head",
  "shared",
  "patch_embedding",
  "audio_model.patch_embedding",
  "ref_conv",
  "control_adapter",
  "motion_encoder.enc.net_app",
  "face_encoder.conv",
  "pose_patch_embedding",
  "motion_encoder.enc.fc",
  "img_emb.proj",
  "k_norm",
  "q_norm",
  "motion_encoder.dec",
  "head.modulation",
  "casual_audio_encoder",
  "cond_encoder",
  "frame_packer",
  "norm_k",
  "norm_q",
  "tekken_model",
  "multi_modal_projector",
  "patch_conv",
  "ln_pre",
  "input_layernorm",
  "attention_norm",
  "post_attention_layernorm",
] as const;

const ZIMAGE_EXCLUDE = [
  "cap_embedder.0",
  "cap_pad_token",
  "attention_norm1",
  "attention_norm2",
  "ffn_norm1",
  "ffn_norm2",
  "k_norm",
  "q_norm",
  "x_pad_token",
  "norm",
  "bias",
] as const;

/** All documented presets by flag name. */
export const DOCUMENTED_PRESETS: Readonly<Record<string, DocumentedPreset>> = Object.freeze({
  t5xxl: {
    category: "text",
    exclude: COMMON_EXCLUDE,
    remove: ["decoder", "lm_head"],
  },
  mistral: {
    category: "text",
    exclude: COMMON_EXCLUDE,
  },
  visual: {
    category: "text",
    exclude: ["mlp.down_proj", "mlp.up_proj", "mlp.gate_proj"],
  },
  flux2: {
    category: "diffusion",
    highprec: ["stream_modulation", "guidance_in", "time_in", "final_layer", "img_in", "txt_in"],
  },
  distillation_large: {
    category: "diffusion",
    highprec: ["distilled_guidance_layer", "final_layer", "img_in", "txt_in"],
  },
  distillation_small: {
    category: "diffusion",
    highprec: ["distilled_guidance_layer"],
  },
  nerf_large: {
    category: "diffusion",
    highprec: ["distilled_guidance_layer", "nerf_blocks", "nerf_image_embedder", "txt_in"],
  },
  nerf_small: {
    category: "diffusion",
    highprec: ["distilled_guidance_layer", "nerf_blocks", "nerf_image_embedder"],
  },
  radiance: {
    category: "diffusion",
    highprec: ["img_in_patch", "nerf_final_layer_conv", "__x0__"],
  },
  wan: {
    category: "video",
    exclude: COMMON_EXCLUDE,
    highprec: [
      "text_embedding",
      "time_embedding",
      "audio_model.text_embedding",
      "casual_audio_encoder",
      "frame_packer",
      "trainable_cond_mask",
      "cond_encoder",
      "audio_model.time_embedding",
      "time_projection",
      "video_model.time_projection",
      "head.head",
      "face_encoder.out_proj",
      "face_adapter",
      "audio_injector",
    ],
  },
  hunyuan: {
    category: "video",
    exclude: [
      "layernorm",
      "img_attn_k_norm",
      "img_attn_q_norm",
      "txt_attn_k_norm",
      "txt_attn_q_norm",
      "norm1",
      "norm2",
      "vision_in.proj.0",
      "vision_in.proj.4",
      "img_in.proj",
      "cond_type_embedding",
    ],
  },
  qwen: {
    category: "image",
    exclude: ["norm_added_k", "norm_added_q", "norm_k", "norm_q", "txt_norm"],
    highprec: [
      "time_text_embed",
      "img_in",
      "norm_out",
      "proj_out",
      "transformer_blocks.0.img_mod.1",
      "txt_in",
    ],
  },
  zimage: {
    category: "image",
    exclude: ZIMAGE_EXCLUDE,
    highprec: [
      "x_embedder",
      "clip_text_pooled_proj",
      "final_layer",
      "cap_embedder.1",
      "adaLN_modulation",
      "t_embedder",
      "time_text_embed",
      "pos_embed",
      "proj_out",
    ],
  },
  zimage_refiner: {
    category: "image",
    exclude: ZIMAGE_EXCLUDE,
    highprec: ["context_refiner", "noise_refiner"],
  },
  lora: {
    category: "diffusion",
    exclude: ["alpha", "scale"],
  },
});

/** The documented preset flags, in the manual's order. */
export const DOCUMENTED_NAMES: readonly string[] = Object.freeze(Object.keys(DOCUMENTED_PRESETS));

/**
 * Returns the documented preset `name`.
 *
 * Throws `UsageError` naming the nearest preset if there is none of that name.
 */
export function documentedPreset(name: string): DocumentedPreset {
  const preset = Object.hasOwn(DOCUMENTED_PRESETS, name) ? DOCUMENTED_PRESETS[name] : undefined;
  if (preset === undefined) {
    throw new UsageError(
      `Unknown preset ${JSON.stringify(name)}${suggestion(name, DOCUMENTED_NAMES)}`,
    );
  }
  return preset;
}

/**
 * Returns the rule of several documented presets together: what any of them removes is removed, what
 * any of them keeps is kept, every other candidate is quantized. Embeddings, norms and what is no
 * candidate are kept as everywhere. The preset `lora` makes LoRA matrices candidates.
 *
 * Throws `UsageError` for an unknown name.
 */
export function documentedRule(names: readonly string[]): LayerRule {
  const lora = names.includes("lora");
  const presets = names.map((name) => ({ name, preset: documentedPreset(name) }));
  const collect = (list: "exclude" | "highprec" | "remove") =>
    presets.flatMap(({ name, preset }) => (preset[list] ?? []).map((part) => ({ name, part })));
  const removes = collect("remove");
  const keeps = [...collect("exclude"), ...collect("highprec")];
  return (tensor) => {
    const removed = removes.find(({ part }) => tensor.name.includes(part));
    if (removed) return { action: "remove", reason: `--${removed.name} removes "${removed.part}"` };
    const barred = nonCandidateReason(tensor, { lora });
    if (barred !== null) return { action: "keep", reason: barred };
    const kept = keeps.find(({ part }) => tensor.name.includes(part));
    if (kept) return { action: "keep", reason: `--${kept.name} keeps "${kept.part}"` };
    return { action: "quantize", reason: `--${names.join(" --")}` };
  };
}
