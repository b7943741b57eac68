/** How many layers of each quantized format a model has. */

import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { tensorsByName } from "./stored_matrix.ts";

/**
 * Returns how many layers with a weight each format has, in order of appearance. Layers that no marker
 * names count as `I8 scale_weight`, `F8_E4M3 weight_scale` and the like.
 */
export function countFormats(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
): Record<string, number> {
  const tensors = tensorsByName(source);
  const counts = new Map<string, number>();
  for (const layer of layers) {
    if (layer.weightName === null) continue;
    const kind = kindOf(layer, tensors.get(layer.weightName)!);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

function kindOf({ origin, format }: QuantizedLayer, { dtype }: SourceTensor): string {
  if (origin === "scale_weight") return `${dtype} scale_weight`;
  if (origin === "bare") return `${dtype} weight_scale`;
  return format ?? "malformed marker";
}
