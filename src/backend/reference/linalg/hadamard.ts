/** hadamardRows, hadamardColumns: see `LinalgKernels`, `asm/linalg/hadamard.ts`. */

import { checkHadamard } from "../../../linalg/linalg_checks.ts";
import type { Matrix } from "../../../linalg/matrix.ts";

/** Every row. */
export function hadamardRows(x: Matrix<Float32Array | Float64Array>): void {
  checkHadamard("hadamardRows", x, x.cols);
  for (let r = 0; r < x.rows; r++) transformLine(x.data, r * x.rowStride, x.cols, 1);
}

/** Every column. */
export function hadamardColumns(x: Matrix<Float32Array | Float64Array>): void {
  checkHadamard("hadamardColumns", x, x.rows);
  for (let c = 0; c < x.cols; c++) transformLine(x.data, c, x.rows, x.rowStride);
}

/** `count` values from `start`, `step` apart. An f32 array rounds what is stored in it to f32. */
function transformLine(
  x: Float32Array | Float64Array,
  start: number,
  count: number,
  step: number,
): void {
  for (let stride = 1; stride < count; stride *= 2) {
    for (let i = 0; i < count; i++) {
      if (Math.floor(i / stride) % 2 === 1) continue;
      const at = start + i * step, other = at + stride * step;
      const a = x[at]!, b = x[other]!;
      x[at] = a + b;
      x[other] = a - b;
    }
  }
  const exact = 1 / Math.sqrt(count);
  const norm = x instanceof Float32Array ? Math.fround(exact) : exact;
  for (let i = 0; i < count; i++) x[start + i * step] = x[start + i * step]! * norm;
}
