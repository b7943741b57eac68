/** searchScale: see `Kernels.searchScale`; `asm/search_scale.ts` argues for the candidates and the sums. */

import type { Grid } from "../backend.ts";
import { checkGrid } from "../kernel_checks.ts";
import {
  SEARCH_CANDIDATES as CANDIDATES,
  SEARCH_SCALE_MIN,
  SEARCH_STEP as STEP,
  type SearchRange,
  searchRange,
} from "../search_range.ts";
import { roundHalfEven } from "./round_half_even.ts";

const f32 = Math.fround;

const QMAX = 127;

/** Shrinks each scale to the candidate of least squared error. In place. */
export function searchScale(scales: Float32Array, x: Float32Array, grid: Grid): void {
  checkGrid("searchScale", grid, { x }, { scales });
  const range = searchRange(grid.groupRows * grid.groupCols);
  let g = 0;
  for (let top = 0; top < grid.rows; top += grid.groupRows) {
    for (let left = 0; left < grid.cols; left += grid.groupCols) {
      const group: Float32Array[] = [];
      for (let r = top; r < top + grid.groupRows; r++) {
        const at = r * grid.cols + left;
        group.push(x.subarray(at, at + grid.groupCols));
      }
      scales[g] = searchGroup(group, scales[g]!, range);
      g++;
    }
  }
}

/** The best scale of one group, given as its rows. */
function searchGroup(rows: Float32Array[], s0: number, range: SearchRange): number {
  if (!(s0 > SEARCH_SCALE_MIN && s0 < Infinity)) return s0;
  const inverse = f32(STEP / s0);
  const growth = f32(inverse * range.delta);
  // Beyond it, a value may clip at the last candidate.
  const top = toInteger(range.top);
  const sums = new Float64Array(CANDIDATES + 1); // exact: below 2^53
  for (const row of rows) {
    for (const value of row) {
      const magnitude = Math.abs(value);
      const u0 = toInteger(f32(magnitude * inverse));
      if (!(u0 <= (QMAX + 0.5) * STEP)) return s0;
      const q = toInteger(f32(magnitude * growth));
      for (let k = 0; k <= CANDIDATES; k++) {
        const u = u0 + 8 + k * q;
        const wrapped = u << 16 >> 16;
        const error = (u0 > top ? Math.max(wrapped, u - QMAX * STEP) : wrapped) >> 4;
        sums[k]! += error * error;
      }
    }
  }
  return f32(s0 * bestFactor(sums, range));
}

/** `x`, not negative, as the nearest integer if that is below 2^23, as `x + 2^23` in f32 gives it. */
function toInteger(x: number): number {
  return x < 2 ** 23 ? roundHalfEven(x) : x;
}

/** The factor of least cost, by which the scale shrinks. */
function bestFactor(sums: Float64Array, { delta, allowance }: SearchRange): number {
  const start = sums[0]!;
  if (start === 0) return 1;
  let unit = 1; // leaves 22 bits of the first sum, so that four times as much, all that can win, has 24
  while (start / unit >= 2 ** 22) unit *= 2;
  let limit = f32(f32(Math.floor(start / unit) * (255 / 256)) - f32(allowance / unit));
  let best = 1;
  for (let k = 1; k <= CANDIDATES; k++) {
    const sum = Math.floor(sums[k]! / unit);
    if (sum >= 2 ** 24) continue;
    const factor = f32(1 / f32(1 + f32(k * delta)));
    const cost = f32(f32(factor * factor) * sum);
    if (cost < limit) {
      limit = cost;
      best = factor;
    }
  }
  return best;
}
