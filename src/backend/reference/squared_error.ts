/** squaredError: see `CpuKernels.squaredError`, `asm/squared_error.ts`. */

import { checkSquaredError } from "../kernel_checks.ts";

/** Sum of (a - b + bias)², b and bias zero if null; in f64, in order. */
export function squaredError(
  a: Float32Array,
  b: Float32Array | null,
  bias: Float32Array | null,
): number {
  checkSquaredError(a, b, bias);
  let sum = 0;
  const n = bias?.length ?? 1;
  for (let i = 0; i < a.length; i++) {
    const value = a[i]! - (b === null ? 0 : b[i]!) + (bias === null ? 0 : bias[i % n]!);
    sum += value * value;
  }
  return sum;
}
