/** Prefixes of a layer's own name in LoRA files and in model files, as data. */

/** The part of a pipeline that a layer belongs to. */
export type Component = "denoiser" | "text";

/** A prefix before the layer's name in a LoRA file. */
export interface LoraPrefix {
  readonly prefix: string;
  /** null: says nothing about the component. */
  readonly component: Component | null;
  /** Which text encoder, counted from 1; null: not said. */
  readonly slot: number | null;
}

/** The prefixes of LoRA files; several may stand before one name. */
export const LORA_PREFIXES: readonly LoraPrefix[] = Object.freeze([
  { prefix: "base_model.model.", component: null, slot: null },
  { prefix: "model.diffusion_model.", component: "denoiser", slot: null },
  { prefix: "diffusion_model.", component: "denoiser", slot: null },
  { prefix: "transformer.", component: "denoiser", slot: null },
  { prefix: "unet.", component: "denoiser", slot: null },
  { prefix: "lora_unet__", component: "denoiser", slot: null },
  { prefix: "lora_unet_", component: "denoiser", slot: null },
  { prefix: "lora_transformer_", component: "denoiser", slot: null },
  { prefix: "lora_prior_unet_", component: "denoiser", slot: null },
  { prefix: "lycoris_", component: "denoiser", slot: null },
  { prefix: "lora_te_", component: "text", slot: 1 },
  { prefix: "lora_te1_", component: "text", slot: 1 },
  { prefix: "lora_te2_", component: "text", slot: 2 },
  { prefix: "lora_te3_", component: "text", slot: 3 },
  { prefix: "lora_prior_te_", component: "text", slot: 1 },
  { prefix: "text_encoder.", component: "text", slot: 1 },
  { prefix: "text_encoder_2.", component: "text", slot: 2 },
  { prefix: "text_encoder_3.", component: "text", slot: 3 },
]);

/** A prefix before the names of a component in a model file. */
export interface ModelPrefix {
  readonly prefix: string;
  /** null: not a component that LoRAs change, or any. */
  readonly component: Component | "other" | null;
  readonly slot: number | null;
}

/** The prefixes of model files, longer ones before the shorter ones they begin with. */
export const MODEL_PREFIXES: readonly ModelPrefix[] = Object.freeze([
  { prefix: "model.diffusion_model.", component: "denoiser", slot: null },
  { prefix: "diffusion_model.", component: "denoiser", slot: null },
  { prefix: "model.model.", component: null, slot: null },
  { prefix: "net.", component: null, slot: null },
  { prefix: "conditioner.embedders.0.transformer.", component: "text", slot: 1 },
  { prefix: "conditioner.embedders.0.model.", component: "text", slot: 2 }, // SDXL refiner
  { prefix: "conditioner.embedders.1.model.", component: "text", slot: 2 },
  { prefix: "cond_stage_model.transformer.", component: "text", slot: 1 },
  { prefix: "cond_stage_model.model.", component: "text", slot: 1 },
  { prefix: "text_encoders.clip_l.transformer.", component: "text", slot: 1 },
  { prefix: "text_encoders.clip_g.transformer.", component: "text", slot: 2 },
  { prefix: "text_encoders.t5xxl.transformer.", component: "text", slot: 3 },
  { prefix: "first_stage_model.", component: "other", slot: null },
  { prefix: "vae.", component: "other", slot: null },
  { prefix: "audio_vae.", component: "other", slot: null },
  { prefix: "vocoder.", component: "other", slot: null },
]);
