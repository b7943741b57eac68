/**
 * searchClip: of some shares of the scale of a row that of least squared error, for 15 levels.
 *
 *     t     = x / s                                     s: the scale on entry
 *     q     = clamp(roundHalfEven(t * (1 / share)), -7, 7)
 *     error = sum over the row of (t - q * share)^2
 *     s     = s * share                                 of least error; of several the first
 *
 * The sum runs in f32, in lanes k mod 4 over 1024 values, which are added as (0 + 1) + (2 + 3); those of runs in f64.
 *
 * Layout: x f32 [rows, cols] row-major, scales f32 [rows], in place, shares f32 [candidates], from 1/8 to 1. cols is
 * a multiple of 4. Any alignment. A NaN in a row leaves its scale. Class: exact. Divisions are true ones.
 */

import { keepF32 } from "./lib/constants";
import { sumLanesF32 } from "./lib/lanes";

/** Values of a run. */
const RUN: usize = 1024;

export function searchClip(
  scales: usize,
  x: usize,
  shares: usize,
  candidates: usize,
  rows: usize,
  cols: usize,
): void {
  const most = keepF32(7), least = keepF32(-7);
  for (let r: usize = 0; r < rows; r++) {
    const scale = load<f32>(scales), by = f32x4.splat(scale);
    let best = scale, lowest: f64 = f64.MAX_VALUE;
    // Two candidates at a time share the quotients; the last one is paired with itself.
    for (let c: usize = 0; c < candidates; c += 2) {
      const a = load<f32>(shares + (c << 2));
      const b = load<f32>(shares + (min(c + 1, candidates - 1) << 2));
      const shareA = f32x4.splat(a), shareB = f32x4.splat(b);
      const inverseA = f32x4.splat(1 / a), inverseB = f32x4.splat(1 / b);
      let errorA: f64 = 0, errorB: f64 = 0;
      for (let start: usize = 0; start < cols; start += RUN) {
        const end = min(start + RUN, cols);
        let sumA = f32x4.splat(0), sumB = f32x4.splat(0);
        for (let k = start; k < end; k += 4) {
          const t = f32x4.div(v128.load(x + (k << 2)), by);
          const qa = f32x4.pmax(least, f32x4.pmin(most, f32x4.nearest(f32x4.mul(t, inverseA))));
          const qb = f32x4.pmax(least, f32x4.pmin(most, f32x4.nearest(f32x4.mul(t, inverseB))));
          const da = f32x4.sub(t, f32x4.mul(qa, shareA)), db = f32x4.sub(t, f32x4.mul(qb, shareB));
          sumA = f32x4.add(sumA, f32x4.mul(da, da));
          sumB = f32x4.add(sumB, f32x4.mul(db, db));
        }
        errorA += <f64>sumLanesF32(sumA);
        errorB += <f64>sumLanesF32(sumB);
      }
      if (errorA < lowest) {
        lowest = errorA;
        best = scale * a;
      }
      if (errorB < lowest) {
        lowest = errorB;
        best = scale * b;
      }
    }
    store<f32>(scales, best);
    scales += 4;
    x += cols << 2;
  }
}
