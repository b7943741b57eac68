/** The numbered stacks of blocks of a model, and which of them are its body. */

import { isWeightName, layerName } from "../core/layer_name.ts";
import { elementCount } from "../core/shape.ts";
import type { Tensors } from "../core/tensor.ts";
import { isComponent, isIndex } from "./names.ts";
import type { Edges, Stack } from "./preset.ts";

/** A stack is part of the body from this share of all stacked parameters on. */
const BODY_SHARE = 0.25;

/** Place of a layer: `double_blocks`, 7. Null outside of numbered blocks. */
function placeOf(layer: string): { readonly path: string; readonly index: number } | null {
  for (let start = 0, dot = 0; (dot = layer.indexOf(".", start)) >= 0; start = dot + 1) {
    const segment = layer.slice(start, dot);
    if (!isIndex(segment)) continue;
    return start === 0 ? null : { path: layer.slice(0, start - 1), index: Number(segment) };
  }
  return null;
}

/** Returns the stacks of `tensors` behind `prefix`, largest first; 2-D `*.weight` tensors count. */
export function stacksOf(tensors: Tensors, prefix: string): Stack[] {
  const stacks = new Map<string, { first: number; last: number; elements: number }>();
  for (const { name, shape } of tensors) {
    if (shape.length !== 2 || !isWeightName(name)) continue;
    if (!name.startsWith(prefix) || isComponent(name)) continue;
    const place = placeOf(layerName(name.slice(prefix.length)));
    if (place === null) continue;
    const stack = stacks.get(place.path) ??
      { first: place.index, last: place.index, elements: 0 };
    stack.first = Math.min(stack.first, place.index);
    stack.last = Math.max(stack.last, place.index);
    stack.elements += elementCount(shape) ?? 0;
    stacks.set(place.path, stack);
  }
  return [...stacks]
    .map(([path, { first, last, elements }]) => ({
      path,
      firstIndex: first,
      lastIndex: last,
      elements,
    }))
    .sort((a, b) => b.elements - a.elements || (a.path < b.path ? -1 : 1));
}

/**
 * Returns which edge block a layer belongs to (`blocks.0`), or null for the blocks between and for
 * everything outside.
 *
 * Edges are taken of every stack that holds at least a quarter of the stacked parameters: both
 * stacks of a double/single-stream model, but not the two blocks of a token refiner.
 */
export function edgeBlockOf(
  name: string,
  stacks: readonly Stack[],
  edges: Edges,
): string | null {
  const place = placeOf(layerName(name));
  if (place === null) return null;
  const total = stacks.reduce((sum, stack) => sum + stack.elements, 0);
  const stack = stacks.find(({ path }) => path === place.path);
  if (stack === undefined || stack.elements < BODY_SHARE * total) return null;
  const isEdge = place.index < stack.firstIndex + edges.first ||
    place.index > stack.lastIndex - edges.last;
  return isEdge ? `${place.path}.${place.index}` : null;
}
