/** How many layers of each format a model has, in the words of people and as counts. */

import type { ModelSource } from "../safetensors/model_source.ts";
import { findQuantizedLayers, type QuantizedLayer, type ReadBytes } from "./quant_layers.ts";

/** Whether a model is quantized, and what was found. */
export interface QuantizedState {
  readonly quantized: boolean;
  /** `112 int8_tensorwise layers`; `no quantized layers`. */
  readonly found: string;
  readonly layers: readonly QuantizedLayer[];
}

/**
 * Returns whether a model holds quantized weights, with a sentence on what was found. Markers without
 * a weight do not count.
 *
 * @param readBytes as for {@link findQuantizedLayers}.
 */
export function isAlreadyQuantized(source: ModelSource, readBytes: ReadBytes): QuantizedState {
  const layers = findQuantizedLayers(source, readBytes);
  const found = foundWords(layers);
  return { quantized: found !== "", found: found || "no quantized layers", layers };
}

/** `2 int8_tensorwise layers (convrot 256), 1 I8 layer with weight_scale`; empty if there are none. */
export function foundWords(layers: readonly QuantizedLayer[]): string {
  const kinds = new Map<string, { count: number; before: string; after: string }>();
  for (const layer of layers) {
    if (layer.weightName === null) continue;
    const [before, own] = wordsOf(layer);
    const after = layer.convrotGroupSize === null
      ? own
      : `${own} (convrot ${layer.convrotGroupSize})`;
    const kind = kinds.get(before + after) ?? { count: 0, before, after };
    kind.count++;
    kinds.set(before + after, kind);
  }
  return [...kinds.values()].sort((a, b) => b.count - a.count)
    .map(({ count, before, after }) => `${count} ${before} layer${count === 1 ? "" : "s"}${after}`)
    .join(", ");
}

/**
 * Returns how many layers with a weight each format has, in order of appearance. Layers that no marker
 * names count as `I8 weight_scale`, `NF4 of bitsandbytes` and the like.
 */
export function countFormats(layers: readonly QuantizedLayer[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const layer of layers) {
    if (layer.weightName === null) continue;
    const [before, after] = wordsOf(layer);
    const isMalformed = layer.kind === null && layer.origin !== "unmarked" && layer.format === null;
    const name = isMalformed ? "malformed marker" : before + after.replace(/^ with/, "");
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

function wordsOf(layer: QuantizedLayer): readonly [before: string, after: string] {
  const { kind, found, tensors, format } = layer;
  if (kind !== null && found !== null) return kind.words?.(tensors, found) ?? [kind.id, ""];
  // A stranger's word: quoted if it is more than a word.
  if (format !== null) return [/^[\w.-]{1,60}$/.test(format) ? format : JSON.stringify(format), ""];
  const dtype = tensors.weight?.dtype ?? "packed";
  return layer.origin === "unmarked"
    ? [dtype, " with an unknown layout"]
    : [dtype, " with a malformed marker"];
}
