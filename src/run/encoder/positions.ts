/** What positions of tokens do to attention: rotary tables, buckets of distances. Pure. */

import type { RopeStep } from "../../presets/encoders/encoder_graph.ts";

/** Cosines and sines, f32 `[positions, size / 2]` each. */
export interface RotaryTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** Fills the rows `from .. to` of a table for heads of `headSize` channels. Angles are f32, as torch has them. */
export function fillRotary(
  { cos, sin }: RotaryTable,
  { theta, scale }: RopeStep,
  { headSize, from, to }: { readonly headSize: number; readonly from: number; readonly to: number },
): void {
  const half = headSize / 2;
  for (let k = 0; k < half; k++) {
    const frequency = Math.fround(Math.fround(1 / Math.pow(theta, 2 * k / headSize)) / scale);
    for (let position = from; position < to; position++) {
      const angle = Math.fround(position * frequency), at = position * half + k;
      cos[at] = Math.cos(angle);
      sin[at] = Math.sin(angle);
    }
  }
}

/** Turns one head of one token in place: channel k with channel k + half. */
export function rotateHead(
  head: Float32Array,
  { cos, sin }: RotaryTable,
  position: number,
): void {
  const half = head.length / 2, at = position * half;
  for (let k = 0; k < half; k++) {
    const a = head[k]!, b = head[k + half]!, c = cos[at + k]!, s = sin[at + k]!;
    head[k] = a * c - b * s;
    head[k + half] = b * c + a * s;
  }
}

/** Buckets of T5's relative positions in all directions, and the distance from which all are one. */
const BUCKETS = 32, MOST_DISTANCE = 128;

/** Returns the bucket of a key `distance` tokens behind the query: exact up to 7, then in logarithmic steps. */
export function relativeBucket(distance: number): number {
  const half = BUCKETS / 2, exact = half / 2, away = Math.abs(distance);
  const base = distance > 0 ? half : 0;
  if (away < exact) return base + away;
  const step = Math.fround(Math.log(away / exact)) / Math.log(MOST_DISTANCE / exact);
  return base + Math.min(half - 1, exact + Math.floor(step * (half - exact)));
}
