/** errorStats: see `Kernels.errorStats`, `asm/error_stats.ts`. */

import { STATS } from "../backend.ts";
import { checkErrorStats } from "../kernel_checks.ts";

/** Adds the error of `xhat` against `x` to `stats`. All sums in f64. */
export function errorStats(stats: Float64Array, x: Float32Array, xhat: Float32Array): void {
  checkErrorStats(stats, x, xhat);
  for (let i = 0; i < x.length; i++) {
    const a = x[i]!, b = xhat[i]!;
    const error = Math.fround(a - b);
    stats[STATS.squaredError]! += error * error;
    stats[STATS.squaredSignal]! += a * a;
    stats[STATS.squaredDequantized]! += b * b;
    stats[STATS.dot]! += a * b;
    if (Math.abs(error) > stats[STATS.maxAbsError]!) stats[STATS.maxAbsError] = Math.abs(error);
  }
  stats[STATS.count]! += x.length;
}
