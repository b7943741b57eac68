/**
 * The directions of a LoRA that will be used with the quantized model: the rows of its `lora_A` (or
 * `lora_down`) factors, by the weight that they belong to. They steer error compensation: what the LoRA
 * reads from a layer's inputs should come out right.
 */

import type { Tensors } from "../core/tensor.ts";
import type { LoraDelta } from "../lora/lora_delta.ts";
import type { LoraDirections } from "./calibration.ts";
import { openLoraMerge } from "../plan/lora_merge.ts";

/** Directions by weight. */
export interface LoraSteering {
  /** Names of the weights that the LoRA has directions for. */
  readonly names: ReadonlySet<string>;
  /** Parts of the LoRA without a place in the model, one sentence each. */
  readonly notes: readonly string[];
  /** Returns the directions of a weight; null if there are none. */
  directionsOf(name: string): LoraDirections | null;
}

/**
 * Opens a LoRA and finds the weights that its modules belong to. Names and fused layers are resolved as for
 * merging.
 *
 * @param tensors the model's tensors; quantized ones as what they dequantize to.
 * @throws as `openLoraMerge`.
 */
export function openLoraSteering(tensors: Tensors, path: string): LoraSteering {
  const merge = openLoraMerge(tensors, { paths: [path], scale: 1, dampen: false, strict: false });
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const isMatrix = (name: string) => shapes.get(name)?.length === 2;
  const without: string[] = [];
  const names = new Set([...merge.names].filter((name) => {
    const has = isMatrix(name) && merge.deltasOf(name).some(({ form }) => form.kind === "lora");
    if (!has) without.push(name);
    return has;
  }));
  const rest = without.length === 0 ? [] : [
    `${path} steers nothing in ${without.length} weights: they are no matrices, or have no lora_A ` +
    `(${without.slice(0, 3).join(", ")}${without.length > 3 ? ", ..." : ""})`,
  ];
  return {
    names,
    notes: [...merge.notes, ...rest],
    directionsOf: (name) => names.has(name) ? directionsOf(merge.deltasOf(name)) : null,
  };
}

/** The rows of all A factors, one below the other, each scaled to length 1: what is read, not how much of it. */
function directionsOf(deltas: readonly LoraDelta[]): LoraDirections | null {
  const rows = deltas.flatMap(({ form, cols }) =>
    form.kind !== "lora" ? [] : Array.from(
      { length: form.rank },
      (_, r) => form.a.subarray(r * cols, (r + 1) * cols),
    )
  ).filter((row) => row.some((x) => x !== 0));
  if (rows.length === 0) return null;
  const cols = rows[0]!.length;
  const values = new Float32Array(new SharedArrayBuffer(4 * rows.length * cols));
  rows.forEach((row, r) => {
    let energy = 0;
    for (const x of row) energy += x * x;
    const scale = 1 / Math.sqrt(energy);
    for (let k = 0; k < cols; k++) values[r * cols + k] = row[k]! * scale;
  });
  return { rank: rows.length, values };
}
