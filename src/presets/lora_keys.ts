/** The spellings of LoRA and LyCORIS tensors, by which adapter files are distinguished from models. */

/** Adapter tensors of peft, diffusers, kohya, LyCORIS (LoHa, LoKr, OFT), DoRA and full-difference patches. */
const ADAPTER_KEYS: readonly RegExp[] = [
  // kohya and LyCORIS flatten the module path into the first segment
  /^(lora|lycoris|oft|boft)_(unet|te\d*|transformer|prior|llm)_/,
  /(^|\.)lora_(A|B|C|up|down|mid|embedding_[AB]|magnitude_vector)(\.|$)/,
  // diffusers attention processors and XLabs: to_q_lora.down, to_q.lora.up, qkv_lora1.down
  /(^|[._])lora\d*\.(up|down)\./,
  /(^|\.)lora_linear_layer\./,
  /(^|\.)(hada_[wt]\d(_[ab])?|lokr_[wt]\d(_[ab])?|dora_scale)$/,
  /(^|\.)(oft_(blocks|diag|R)|boft_(R|s)|vera_lambda_[bd]|ia3_l)(\.|$)/,
  /\.(diff|diff_b|diff_m|set_weight)$/,
];

/** A piece that every one of them has: models have a million names without. */
const ADAPTER_PIECE = /lora|lycoris|oft_|hada_|lokr_|dora_|vera_|ia3_|diff|set_weight/;

/** Tensors that accompany an adapter, but occur in models (a snake activation has an `alpha`) too. */
const COMPANION_KEY = /\.(alpha|scale|rescale|reshape_weight|w_norm|b_norm|network_\w+)$/;

/** Whether `name` can only be part of an adapter. */
export function isAdapterKey(name: string): boolean {
  return ADAPTER_PIECE.test(name) && ADAPTER_KEYS.some((key) => key.test(name));
}

/** Whether `name` accompanies an adapter's matrices. */
export function isAdapterCompanion(name: string): boolean {
  return COMPANION_KEY.test(name);
}

/**
 * Whether `name` is one of the two matrices of a LoRA pair and named as a weight: what `--lora`
 * quantizes. `X.lora_A.weight`, `X.lora_A.default.weight`, `X.lora_down.weight`, `X.lora.down.weight`.
 */
export function isLoraMatrix(name: string): boolean {
  return /(^|\.)(lora_(A|B|up|down)(\.[^.]+)?|lora\d*\.(up|down)|[^.]+_lora\d*\.(up|down))\.weight$/
    .test(name);
}
