/** How tensor names are read: prefixes before a model's own names, path segments, components. */

/**
 * Prefixes before a diffusion model's own names, tried in this order. `model.` comes last because
 * text encoders' own names start with it: a prefix counts only if a family matches behind it.
 */
export const MODEL_PREFIXES = [
  "model.diffusion_model.",
  "model.model.",
  "net.",
  "diffusion_model.",
  "transformer.",
  "unet.",
  "model.",
] as const;

/** The prefixes that say "diffusion model" by themselves, even if no family matches. */
export const TELLING_PREFIXES: readonly string[] = MODEL_PREFIXES.slice(0, 4);

/** First segments of what an all-in-one checkpoint carries beside its diffusion model. */
const COMPONENT_PREFIXES = [
  "conditioner.",
  "cond_stage_model.",
  "text_encoders.",
  "first_stage_model.",
  "vae.",
  "audio_vae.",
  "vocoder.",
] as const;

/** Whether `name` belongs to a text encoder or VAE of an all-in-one checkpoint. */
export function isComponent(name: string): boolean {
  return COMPONENT_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Returns `name` without the first of {@link MODEL_PREFIXES} that it starts with. */
export function withoutModelPrefix(name: string): string {
  const prefix = MODEL_PREFIXES.find((candidate) => name.startsWith(candidate));
  return prefix === undefined ? name : name.slice(prefix.length);
}

/** Whether a path segment is a block number. */
export function isIndex(segment: string): boolean {
  return /^\d+$/.test(segment);
}
