/**
 * searchScale: shrinks each scale to the candidate with the least squared error of its group. Clipping
 * the largest value of a group a little makes the steps of all others finer.
 *
 * Cost of a scale s = s0 * f (f32), s0 the scale on entry, in units of s0^2:
 *
 *     cost(f) = f^2 * sum (t - min(roundHalfEven(t), 127))^2,   t = |x| * (1 / s)
 *
 * Candidates. If a group of n values has one of magnitude absmax and the error of the others shrinks
 * like f^2, then cost(f) = f^2 * E + (1 - f)^2 * 127^2 with E = cost(1), which is below E from f = 1
 * down to (1 - r) / (1 + r) and least at 1 / (1 + r), where r = E / 127^2. (E is about n / 12; for
 * 1024, 4096 and 16384 values r is 0.0053, 0.021 and 0.085.) Real groups have several large values, so
 * their best f lies in the upper part of that range; measured, going down to 1 - 1.45 r loses nothing.
 * Groups under some 2000 values have hardly any such gain, but a scale some 0.5% away meets other
 * roundings, and the best of a few independent draws is better by luck: the range is at least 2.2%
 * wide. So:
 *
 *     w    = min(max(1.45 * cost(1) / 127^2, 0.022), 0.5),   step = w / 4
 *     nine = 1;   1 - step, ... 1 - 4 step;   best of these + step * {1/2, 1/4, -1/4, -1/2}
 *            (where 1 is the best: 1 - step * {1/4, 1/2, 3/4, 7/8})
 *
 * Measured gains in dB on normal rows, in brackets with 200 candidates: 1024 values 0.10 (0.11), 4096
 * 0.15 (0.155), 16384 0.31 (0.32); 128 x 128 tiles 0.31 (0.31). Eleven evenly spaced candidates give
 * less than these nine; a least-squares refit of the scale, sum(q x) / sum(q q), gains 1/n of the error,
 * which is nothing, and undoes clipping.
 *
 * A candidate is taken if its cost is below that of the best so far, the first limit being
 * cost(1) * (1 - 2^-12). That margin (0.001 dB) is more than all that f32 sums and the reciprocal can
 * be wrong by, up to some 2^17 values, so the result is never worse than s0 with the codes of
 * `quantize`, which divides truly. Larger groups: see src/quant/scale_search.ts.
 *
 * Order of the sums (part of the definition, so that every backend chooses the same): a row of a group
 * is cut into runs of 64 columns, the last one shorter. Within a run the value at column j adds to lane
 * j mod 4, in order of columns, from 0. The four lanes of a run then add to the four of the group, run
 * after run, row after row; at the end (lane 0 + lane 1) + (lane 2 + lane 3). Nothing is fused.
 *
 * Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], in place. Any
 * alignment. Tail: a partial vector is filled up with zeros, which add exactly 0.
 * NaN or infinity in a group, an all-zero group, or a scale that is not a positive finite number: the
 * scale stays as it is. Class: exact.
 */

import { keepF32 } from "./lib/constants";
import { loadPartF32, sumLanesF32 } from "./lib/lanes";

const RUN: usize = 64;
const MARGIN: f32 = 1.0 - 1.0 / 4096.0;
const QMAX: f32 = 127;

export function searchScale(
  scales: usize,
  x: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
): void {
  for (let top: usize = 0; top < rows; top += groupRows) {
    for (let left: usize = 0; left < cols; left += groupCols) {
      const group = x + ((top * cols + left) << 2);
      store<f32>(scales, searchGroup(group, cols << 2, groupRows, groupCols, load<f32>(scales)));
      scales += 4;
    }
  }
}

/** The best scale of one group of `rows` x `cols` values whose rows are `stride` bytes apart. */
function searchGroup(x: usize, stride: usize, rows: usize, cols: usize, s0: f32): f32 {
  const start = squaredError(x, stride, rows, cols, 1 / s0);
  if (!(start > 0 && start < Infinity && s0 > 0)) return s0;
  const width = min<f32>(max<f32>(<f32>1.45 * (start / (QMAX * QMAX)), <f32>0.022), 0.5);
  const step = width * 0.25;
  let limit = start * MARGIN;
  let best: f32 = 1;

  const f1 = <f32>1 - step, f2 = f1 - step, f3 = f2 - step, f4 = f3 - step;
  let factors = f32x4(f1, f2, f3, f4);
  let costs = costsOf(x, stride, rows, cols, s0, factors);
  for (let k = 0; k < 4; k++) {
    // The lane to look at is always lane 0: lane indices must be constants.
    const cost = f32x4.extract_lane(costs, 0);
    if (cost < limit) {
      limit = cost;
      best = f32x4.extract_lane(factors, 0);
    }
    costs = v128.shuffle<f32>(costs, costs, 1, 2, 3, 0);
    factors = v128.shuffle<f32>(factors, factors, 1, 2, 3, 0);
  }

  const half = step * 0.5, quarter = step * 0.25;
  if (best == 1) {
    const g1 = <f32>1 - quarter, g2 = g1 - quarter, g3 = g2 - quarter;
    factors = f32x4(g1, g2, g3, g3 - quarter * 0.5);
  } else {
    factors = f32x4(best + half, best + quarter, best - quarter, best - half);
  }
  costs = costsOf(x, stride, rows, cols, s0, factors);
  for (let k = 0; k < 4; k++) {
    const cost = f32x4.extract_lane(costs, 0);
    if (cost < limit) {
      limit = cost;
      best = f32x4.extract_lane(factors, 0);
    }
    costs = v128.shuffle<f32>(costs, costs, 1, 2, 3, 0);
    factors = v128.shuffle<f32>(factors, factors, 1, 2, 3, 0);
  }
  return s0 * best;
}

/** cost(f) of four factors. */
function costsOf(x: usize, stride: usize, rows: usize, cols: usize, s0: f32, factors: v128): v128 {
  const inverses = f32x4.div(f32x4.splat(1), f32x4.mul(f32x4.splat(s0), factors));
  const sums = squaredErrors(x, stride, rows, cols, inverses);
  return f32x4.mul(f32x4.mul(factors, factors), sums);
}

/** The sum of squared rounding errors of a group, in steps, for one reciprocal scale. */
function squaredError(x: usize, stride: usize, rows: usize, cols: usize, inverse: f32): f32 {
  const i0 = f32x4.splat(inverse), most = keepF32(QMAX);
  let total = i64x2.splat(0);
  for (let r: usize = 0; r < rows; r++) {
    for (let left: usize = 0; left < cols; left += RUN) {
      const p = x + (left << 2), n = min(RUN, cols - left);
      let sum = i64x2.splat(0), j: usize = 0;
      for (; j + 4 <= n; j += 4) sum = addError(sum, f32x4.abs(v128.load(p + (j << 2))), i0, most);
      if (j < n) sum = addError(sum, f32x4.abs(loadPartF32(p + (j << 2), n - j)), i0, most);
      total = f32x4.add(total, sum);
    }
    x += stride;
  }
  return sumLanesF32(total);
}

/** The same for four reciprocals at once: each value is loaded once, and four sums are in flight. */
function squaredErrors(x: usize, stride: usize, rows: usize, cols: usize, inverses: v128): v128 {
  const i0 = v128.shuffle<f32>(inverses, inverses, 0, 0, 0, 0);
  const i1 = v128.shuffle<f32>(inverses, inverses, 1, 1, 1, 1);
  const i2 = v128.shuffle<f32>(inverses, inverses, 2, 2, 2, 2);
  const i3 = v128.shuffle<f32>(inverses, inverses, 3, 3, 3, 3);
  const zero = i64x2.splat(0), most = keepF32(QMAX);
  let t0 = zero, t1 = zero, t2 = zero, t3 = zero;
  for (let r: usize = 0; r < rows; r++) {
    for (let left: usize = 0; left < cols; left += RUN) {
      const p = x + (left << 2), n = min(RUN, cols - left);
      let s0 = zero, s1 = zero, s2 = zero, s3 = zero, j: usize = 0;
      for (; j + 4 <= n; j += 4) {
        const a = f32x4.abs(v128.load(p + (j << 2)));
        s0 = addError(s0, a, i0, most);
        s1 = addError(s1, a, i1, most);
        s2 = addError(s2, a, i2, most);
        s3 = addError(s3, a, i3, most);
      }
      if (j < n) {
        const a = f32x4.abs(loadPartF32(p + (j << 2), n - j));
        s0 = addError(s0, a, i0, most);
        s1 = addError(s1, a, i1, most);
        s2 = addError(s2, a, i2, most);
        s3 = addError(s3, a, i3, most);
      }
      t0 = f32x4.add(t0, s0);
      t1 = f32x4.add(t1, s1);
      t2 = f32x4.add(t2, s2);
      t3 = f32x4.add(t3, s3);
    }
    x += stride;
  }
  return f32x4(sumLanesF32(t0), sumLanesF32(t1), sumLanesF32(t2), sumLanesF32(t3));
}

/** sum + (t - min(roundHalfEven(t), 127))^2 with t = magnitude * inverse. */
// @ts-ignore: decorator
@inline
function addError(sum: v128, magnitude: v128, inverse: v128, most: v128): v128 {
  const t = f32x4.mul(magnitude, inverse);
  const e = f32x4.sub(t, f32x4.pmin(most, f32x4.nearest(t)));
  return f32x4.add(sum, f32x4.mul(e, e));
}
