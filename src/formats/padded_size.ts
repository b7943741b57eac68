/** Sizes of formats whose weights are padded for the hardware. */

import { roundUp } from "./layer_shapes.ts";
import type { LayerTensors } from "./format.ts";

/** Shape of scales in tiles of 128 rows x 4. */
export function tiledShape(rows: number, across: number): [number, number] {
  return [roundUp(rows, 128), roundUp(across, 4)];
}

/** The rows of a weight before padding: those of another file or of the bias, if they are padded to `rows`. */
export function ownRows(
  { bias, knownShape }: LayerTensors,
  rows: number,
  pad: (own: number) => number,
): number {
  const own = knownShape?.[0] ?? (bias?.shape.length === 1 ? bias.shape[0]! : rows);
  return pad(own) === rows ? own : rows;
}
