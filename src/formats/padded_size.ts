/** Sizes of formats whose weights are padded for the hardware. */

import { roundUp } from "./layer_shapes.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { type LayerTensors, type Refusal, unreadable } from "./format.ts";

/** Rows of a tile of scales. */
const TILE_ROWS = 128;

/** Shape of scales in tiles of 128 rows x 4. */
export function tiledShape(rows: number, across: number): [number, number] {
  return [roundUp(rows, TILE_ROWS), roundUp(across, 4)];
}

/** The rows of one expert, or of a weight that is no bank, and the shape of the scales of all. */
export function tiledScales(
  shape: readonly number[],
  across: number,
): { readonly height: number; readonly wanted: readonly number[] } {
  const height = shape[shape.length - 2] ?? 1;
  return { height, wanted: [...shape.slice(0, -2), ...tiledShape(height, across)] };
}

/** Why tiles of scales cannot be read in one go; null: they can. Every expert begins a tile of its own. */
export function apartTiles(codes: SourceTensor, height: number): Refusal | null {
  if (codes.shape.length === 2 || height % TILE_ROWS === 0) return null;
  return unreadable(
    codes,
    `banks whose experts have ${height} rows, no multiple of ${TILE_ROWS}, are not decoded here`,
    START_FROM_ORIGINAL,
  );
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
