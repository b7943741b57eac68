/** rotateRowsF64, rotateColumnsF64: see `LinalgKernels`, `asm/linalg/rotate_f64.ts`. */

import { checkRotateF64 } from "../../../linalg/linalg_checks.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** Groups of neighbours in a row. */
export function rotateRowsF64(x: MatrixF64, groupSize: number): void {
  checkRotateF64("rotateRowsF64", x, groupSize, x.cols);
  for (let r = 0; r < x.rows; r++) rotateLine(x.data, r * x.rowStride, x.cols, 1, groupSize);
}

/** Groups of neighbours in a column. */
export function rotateColumnsF64(x: MatrixF64, groupSize: number): void {
  checkRotateF64("rotateColumnsF64", x, groupSize, x.rows);
  for (let c = 0; c < x.cols; c++) rotateLine(x.data, c, x.rows, x.rowStride, groupSize);
}

/** `count` values from `start`, `step` apart, in radix-4 stages from the largest stride to 1. */
function rotateLine(
  x: Float64Array,
  start: number,
  count: number,
  step: number,
  groupSize: number,
): void {
  for (let stride = groupSize / 4; stride >= 1; stride /= 4) {
    for (let i = 0; i < count; i++) {
      const isFirstOfFour = Math.floor(i / stride) % 4 === 0;
      if (isFirstOfFour) butterfly(x, start + i * step, stride * step);
    }
  }
}

/** Four values, `apart` apart, times H4 / 2. */
function butterfly(x: Float64Array, i: number, apart: number): void {
  const a = x[i]!, b = x[i + apart]!, c = x[i + 2 * apart]!, d = x[i + 3 * apart]!;
  const h = ((a + d) + (b + c)) * 0.5;
  x[i] = h - d;
  x[i + apart] = h - c;
  x[i + 2 * apart] = h - b;
  x[i + 3 * apart] = h - a;
}
