/** compressed-tensors of llm-compressor: `weight_packed` with `weight_shape`, zero points or global scales. */

import { refusedFormat } from "./refused_format.ts";

const BESIDE = ["weight_zero_point", "weight_shape", "weight_global_scale", "weight_g_idx"];

export const compressedTensors = refusedFormat({
  id: "compressed_tensors",
  title: "compressed-tensors of llm-compressor",
  codesIn: ({ weight, parts }) =>
    parts.get("weight_packed") ?? (BESIDE.some((part) => parts.has(part)) ? weight : null),
});
