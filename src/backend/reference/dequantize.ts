/** dequantize: see `Kernels.dequantize`, `asm/dequantize.ts`. */

import type { Grid } from "../backend.ts";
import { checkGrid } from "../kernel_checks.ts";
import { groupOf } from "./groups.ts";

/** out = f32(code) * scale, rounded once. */
export function dequantize(
  out: Float32Array,
  codes: Int8Array,
  scales: Float32Array,
  grid: Grid,
): void {
  checkGrid("dequantize", grid, { out, codes }, { scales });
  for (let r = 0; r < grid.rows; r++) {
    for (let c = 0; c < grid.cols; c++) {
      const i = r * grid.cols + c;
      out[i] = codes[i]! * scales[groupOf(grid, r, c)]!;
    }
  }
}
