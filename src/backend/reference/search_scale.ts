/** searchScale: see `Kernels.searchScale`; `asm/search_scale.ts` argues for the candidates. */

import type { Grid } from "../backend.ts";
import { checkGrid } from "../kernel_checks.ts";
import { roundHalfEven } from "./round_half_even.ts";

const f32 = Math.fround;

/** Columns whose errors are added up in four lanes before they join the total. */
const RUN = 64;
/** What a candidate must beat: an improvement that is more than rounding of the sums. */
const MARGIN = 1 - 1 / 4096;

/** Shrinks each scale to the candidate of least squared error. In place. */
export function searchScale(scales: Float32Array, x: Float32Array, grid: Grid): void {
  checkGrid("searchScale", grid, { x }, { scales });
  let g = 0;
  for (let top = 0; top < grid.rows; top += grid.groupRows) {
    for (let left = 0; left < grid.cols; left += grid.groupCols) {
      const groupRows: Float32Array[] = [];
      for (let r = top; r < top + grid.groupRows; r++) {
        const at = r * grid.cols + left;
        groupRows.push(x.subarray(at, at + grid.groupCols));
      }
      scales[g] = searchGroup(groupRows, scales[g]!);
      g++;
    }
  }
}

/** The best scale of one group, given as its rows. */
function searchGroup(rows: Float32Array[], s0: number): number {
  const start = squaredError(rows, f32(1 / s0));
  if (!(start > 0 && start < Infinity && s0 > 0)) return s0;
  const share = f32(f32(1.45) * f32(start / 16129)); // 16129 = 127^2
  const width = Math.min(Math.max(share, f32(0.022)), 0.5);
  const step = width / 4;

  let best = 1;
  let limit = f32(start * MARGIN);
  const consider = (factor: number): void => {
    const error = squaredError(rows, f32(1 / f32(s0 * factor)));
    const cost = f32(f32(factor * factor) * error);
    if (cost < limit) {
      limit = cost;
      best = factor;
    }
  };

  const coarse = [f32(1 - step)];
  for (let k = 1; k < 4; k++) coarse.push(f32(coarse[k - 1]! - step));
  coarse.forEach(consider);
  fineCandidates(best, step).forEach(consider);
  return f32(s0 * best);
}

/** Four factors around `best`, or below it where it is 1. */
function fineCandidates(best: number, step: number): number[] {
  const half = step / 2, quarter = step / 4, eighth = step / 8;
  if (best !== 1) {
    return [f32(best + half), f32(best + quarter), f32(best - quarter), f32(best - half)];
  }
  const first = f32(1 - quarter), second = f32(first - quarter), third = f32(second - quarter);
  return [first, second, third, f32(third - eighth)];
}

/** Sum of squared rounding errors, in steps of the scale, in the order that the definition fixes. */
function squaredError(rows: Float32Array[], inverse: number): number {
  const total = new Float32Array(4);
  for (const row of rows) {
    for (let left = 0; left < row.length; left += RUN) {
      const run = row.subarray(left, left + RUN);
      const lanes = new Float32Array(4);
      run.forEach((value, j) => {
        const t = f32(Math.abs(value) * inverse);
        const error = f32(t - Math.min(127, Number.isFinite(t) ? roundHalfEven(t) : t));
        lanes[j % 4] = lanes[j % 4]! + f32(error * error);
      });
      for (let lane = 0; lane < 4; lane++) total[lane] = total[lane]! + lanes[lane]!;
    }
  }
  return f32(f32(total[0]! + total[1]!) + f32(total[2]! + total[3]!));
}
