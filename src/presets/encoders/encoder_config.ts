/** The numbers of a text encoder that its tensors do not show: from a `config.json`, as Hugging Face has them. */

import * as v from "valibot";

const COUNT = v.pipe(v.number(), v.integer(), v.minValue(1));
const POSITIVE = v.pipe(v.number(), v.gtValue(0));

const NUMBERS = v.object({
  hidden_size: v.optional(COUNT),
  num_attention_heads: v.optional(COUNT),
  head_dim: v.nullish(COUNT),
  rms_norm_eps: v.optional(POSITIVE),
  rope_theta: v.optional(POSITIVE),
  rope_local_base_freq: v.optional(POSITIVE),
  rope_scaling: v.nullish(v.object({
    rope_type: v.optional(v.string()),
    type: v.optional(v.string()),
    factor: v.optional(POSITIVE),
  })),
  query_pre_attn_scalar: v.optional(POSITIVE),
  sliding_window: v.nullish(COUNT),
  sliding_window_pattern: v.optional(COUNT),
});

/** Models that see images too have the numbers of their text part one level down. */
const CONFIG = v.object({ ...NUMBERS.entries, text_config: v.optional(NUMBERS) });

/** Numbers of a text encoder. Absent: not said. */
export type EncoderConfig = v.InferOutput<typeof NUMBERS>;

/**
 * Returns the numbers of the text part.
 *
 * @param text of a `config.json`.
 * @throws SyntaxError if it is no JSON; v.ValiError if a number is none.
 */
export function parseEncoderConfig(text: string): EncoderConfig {
  const { text_config, ...whole } = v.parse(CONFIG, JSON.parse(text));
  return text_config ?? whole;
}
