/** multiplyRows, weighDifferences: see `CpuKernels`, `asm/row_sums.ts`. */

import { checkRowSums, checkWeighed } from "../kernel_checks.ts";

/** Sums of products along rows, in f64. */
export function multiplyRows(out: Float64Array, a: Float32Array, b: Float32Array): void {
  const cols = checkRowSums("multiplyRows", out, { a, b });
  for (let r = 0; r < out.length; r++) {
    let sum = 0;
    for (let i = r * cols; i < (r + 1) * cols; i++) sum += a[i]! * b[i]!;
    out[r] = sum;
  }
}

/** Sums of weighted differences along rows, in f64. */
export function weighDifferences(
  out: Float64Array,
  weights: Float64Array,
  a: Float32Array,
  b: Float32Array,
): void {
  const cols = checkWeighed(out, weights, { a, b });
  for (let r = 0; r < out.length; r++) {
    let sum = 0;
    for (let k = 0, i = r * cols; k < cols; k++, i++) sum += weights[k]! * (a[i]! - b[i]!);
    out[r] = sum;
  }
}
