/** Which tensors may be quantized at all, before any keep-list: 2-D float `*.weight` of linear layers. */

import { isWeightName, layerName } from "../core/layer_name.ts";
import { isFloatDType } from "../core/dtype.ts";
import { elementCount } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isAdapterKey, isLoraMatrix } from "./lora_keys.ts";
import { isComponent } from "./names.ts";
import { rawModule } from "./unusable.ts";

/** Modules whose 2-D weight is a table that is looked up or read raw, never a linear layer. */
const TABLE_MODULES: ReadonlySet<string> = new Set([
  "embed_tokens",
  "embed_tokens_per_layer",
  "token_embedding",
  "token_embeddings",
  "word_embeddings",
  "tok_embeddings",
  "wte",
  "wpe",
  "shared",
  "embed", // the token table of llm_adapter
  "embedding_table",
  "embed_image_indicator",
  "relative_attention_bias",
  "pos_embed",
  "text_projection",
  "trainable_cond_mask",
]);

/** Why a text encoder or VAE inside a checkpoint is left alone. */
const COMPONENT_REASON =
  "text encoder/VAE of an all-in-one checkpoint: stock ComfyUI has no quantized path";

/**
 * Returns why `tensor` is no candidate for quantization, or null if it is one.
 *
 * A candidate is 2-D, named `*.weight`, of a float dtype, not empty, and neither an embedding nor a
 * norm. `lora`: the matrices of LoRA pairs count too.
 */
export function nonCandidateReason(
  tensor: TensorInfo,
  options: { readonly lora: boolean },
): string | null {
  return structuralReason(tensor, options) ?? tableReason(tensor.name);
}

/**
 * Returns why `tensor` cannot be quantized whatever is asked for, or null: an embedding passes here,
 * because `--like` may ask for one.
 */
export function structuralReason(
  tensor: TensorInfo,
  options: { readonly lora: boolean },
): string | null {
  const { name, dtype, shape } = tensor;
  if (isComponent(name)) return COMPONENT_REASON;
  if (name.endsWith(".bias")) return "bias";
  if (!isWeightName(name)) return "not named *.weight";
  if (shape.length !== 2) return `not 2-D: shape [${shape.join(", ")}]`;
  if (elementCount(shape) === 0) return "no elements";
  if (!isFloatDType(dtype)) return `dtype ${dtype} is not a float`;
  if (isAdapterKey(name) && !(options.lora && isLoraMatrix(name))) {
    return isLoraMatrix(name) ? "LoRA weight: needs --lora" : "part of a LoRA";
  }
  return rawModule(tensor)?.what ?? null;
}

/** Whether the module that owns a weight is an embedding, by its name. */
export function isEmbedding(name: string): boolean {
  return tableReason(name) === "embedding";
}

/** Returns `embedding` or `norm` if the module that owns the weight is one, by its name. */
function tableReason(name: string): string | null {
  const layer = layerName(name);
  const module = layer.slice(layer.lastIndexOf(".") + 1);
  if (TABLE_MODULES.has(module) || /(^|_)embeddings?$/.test(module)) return "embedding";
  if (module.split("_").some((word) => /norm\d*$/i.test(word) || word === "ln")) return "norm";
  return null;
}
