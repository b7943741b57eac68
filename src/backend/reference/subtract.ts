/** subtract: see `CpuKernels.subtract`, `asm/subtract.ts`. */

import { checkSameLength } from "../kernel_checks.ts";

/** out = a - b, rounded once. */
export function subtract(out: Float32Array, a: Float32Array, b: Float32Array): void {
  checkSameLength("subtract", out, a);
  checkSameLength("subtract", out, b);
  for (let i = 0; i < out.length; i++) out[i] = a[i]! - b[i]!;
}
