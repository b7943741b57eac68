/** Layers in the order of the model, and in groups of like ones. Pure. */

import { layerName } from "../../core/layer_name.ts";
import { blockName } from "../plan_groups.ts";

/** Returns layers by name, numbers by size: `blocks.2` comes before `blocks.10`. */
export function inModelOrder<T extends { readonly name: string }>(layers: readonly T[]): T[] {
  const { compare } = new Intl.Collator("en", { numeric: true });
  return [...layers].sort((a, b) => compare(a.name, b.name));
}

/** Returns the layers that differ in their block number only, by their common name. */
export function byKind<T extends { readonly name: string }>(
  layers: readonly T[],
): Map<string, T[]> {
  const kinds = new Map<string, T[]>();
  for (const layer of layers) {
    const kind = layerName(blockName(layer.name));
    const known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, [layer]);
    else known.push(layer);
  }
  return kinds;
}

/** Returns the middle of some numbers; NaN without any. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]!
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}
