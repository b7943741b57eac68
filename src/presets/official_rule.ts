/**
 * The rule by which the official INT8 files choose their layers: large matrices inside numbered
 * blocks, minus modules whose names show that they steer the model rather than carry it. It is the
 * tier `minimal` of every family, and all there is for an unknown model.
 */

import { layerName } from "../core/layer_name.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isIndex } from "./names.ts";

const MIN_ROWS = 8;
const MIN_SIZE = 256;

/** Official files are rotated: columns that the smallest group does not divide are not quantized. */
const SMALLEST_GROUP = 16;

const TOKEN_EMBEDDINGS: ReadonlySet<string> = new Set([
  "embed_tokens",
  "embed_tokens_per_layer",
  "token_embedding",
  "word_embeddings",
  "tok_embeddings",
  "wte",
  "shared",
]);

const KEPT_IF_SEGMENT_CONTAINS = [
  "scale_shift",
  "rope",
  "rotary",
  "rel_pos",
  "pos_embed",
  "posembed",
  "embedder",
  "gate_logits",
  "router",
  "routing",
  "logit",
  "temperature",
  "temb",
  "t_emb",
  "guidance",
  "register",
  "refiner_blocks",
  "adapter",
] as const;

const KEPT_IF_WORD_STARTS_WITH = ["time"] as const;

/** Runs of whole words: `proj_out` also matches the segment `audio_proj_out`. */
const KEPT_IF_WORDS_ARE = ["final", "head", "proj_out", "out_layer"] as const;

/**
 * Returns why the official rule keeps `tensor`, a 2-D `*.weight` `[rows, cols]`, or null if it
 * quantizes it.
 */
export function officialKeepReason(tensor: TensorInfo): string | null {
  const [rows = 0, cols = 0] = tensor.shape;
  const segments = layerName(tensor.name).split(".");
  if (rows < MIN_ROWS || Math.min(rows, cols) < MIN_SIZE) {
    return `official rule: a side below ${MIN_SIZE}`;
  }
  if (cols % SMALLEST_GROUP !== 0) {
    return "official rule: no rotation group divides the columns";
  }
  if (!segments.slice(0, -1).some(isIndex)) return "official rule: outside the numbered blocks";
  for (const segment of segments) {
    const word = keptWordOf(segment);
    if (word !== null) return `official rule: keeps "${word}"`;
  }
  return null;
}

function keptWordOf(segment: string): string | null {
  if (TOKEN_EMBEDDINGS.has(segment)) return segment;
  const words = segment.split("_");
  const spaced = `_${segment}_`;
  return KEPT_IF_SEGMENT_CONTAINS.find((part) => segment.includes(part)) ??
    KEPT_IF_WORD_STARTS_WITH.find((start) => words.some((word) => word.startsWith(start))) ??
    KEPT_IF_WORDS_ARE.find((run) => spaced.includes(`_${run}_`)) ??
    null;
}
