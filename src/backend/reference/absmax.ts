/** absmax: see `Kernels.absmax`, `asm/absmax.ts`. */

import type { Grid } from "../backend.ts";
import { checkGrid } from "../kernel_checks.ts";
import { groupOf } from "./groups.ts";

/** out[g] = max |x| over group g. NaN is ignored. */
export function absmax(out: Float32Array, x: Float32Array, grid: Grid): void {
  checkGrid("absmax", grid, { x }, { out });
  out.fill(0);
  for (let r = 0; r < grid.rows; r++) {
    for (let c = 0; c < grid.cols; c++) {
      const g = groupOf(grid, r, c);
      const magnitude = Math.abs(x[r * grid.cols + c]!);
      if (magnitude > out[g]!) out[g] = magnitude;
    }
  }
}
