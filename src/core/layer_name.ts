/** Names of layers: what a file calls `blocks.0.q.weight` is the weight of the layer `blocks.0.q`. */

const WEIGHT = ".weight";

/**
 * Returns the layer whose weight has this name; a name that is none of a weight as it is.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * assert.equal(layerName("blocks.0.q.weight"), "blocks.0.q");
 * assert.equal(layerName("blocks.0.scale"), "blocks.0.scale");
 * ```
 */
export function layerName(tensorName: string): string {
  return isWeightName(tensorName) ? tensorName.slice(0, -WEIGHT.length) : tensorName;
}

/** Whether a tensor of this name is the weight of a layer. */
export function isWeightName(tensorName: string): boolean {
  return tensorName.endsWith(WEIGHT);
}

/**
 * Returns the beginning that the names of all tensors of a layer share: up to the last dot, with it, as `a`
 * is no part of a layer `a`.
 */
export function layerPrefix(tensorName: string): string {
  const dot = tensorName.lastIndexOf(".");
  return dot < 0 ? tensorName : tensorName.slice(0, dot + 1);
}
