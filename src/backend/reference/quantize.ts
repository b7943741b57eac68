/** quantize: see `Kernels.quantize`, `asm/quantize.ts`. */

import type { Grid } from "../backend.ts";
import { checkGrid } from "../kernel_checks.ts";
import { groupOf } from "./groups.ts";
import { roundHalfEven } from "./round_half_even.ts";

/** codes = clamp(roundHalfEven(x / scale), -127, 127). NaN gives 0. */
export function quantize(
  codes: Int8Array,
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
): void {
  checkGrid("quantize", grid, { codes, x }, { scales });
  for (let r = 0; r < grid.rows; r++) {
    for (let c = 0; c < grid.cols; c++) {
      const i = r * grid.cols + c;
      codes[i] = codeOf(x[i]!, scales[groupOf(grid, r, c)]!);
    }
  }
}

/** The code of one value. The f64 quotient of two f32, rounded to f32, is the true f32 quotient. */
function codeOf(x: number, scale: number): number {
  const t = Math.fround(x / scale);
  if (Number.isNaN(t)) return 0;
  return roundHalfEven(Math.max(-127, Math.min(127, t)));
}
