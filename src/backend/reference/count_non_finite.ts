/** countNonFinite: see `Kernels.countNonFinite`, `asm/count_non_finite.ts`. */

import type { NonFinite } from "../backend.ts";

/** Counts NaN and infinities, and says where the first one is (-1: nowhere). */
export function countNonFinite(x: Float32Array): NonFinite {
  let count = 0, first = -1;
  for (let i = 0; i < x.length; i++) {
    if (Number.isFinite(x[i]!)) continue;
    if (first < 0) first = i;
    count++;
  }
  return { count, first };
}
