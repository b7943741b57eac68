/** rotate: see `Kernels.rotate`, `asm/rotate.ts`. */

import { checkRotate } from "../kernel_checks.ts";

const f32 = Math.fround;

/** x = x · R per run of `groupSize`, in radix-4 stages from the largest stride to 1. In place. */
export function rotate(x: Float32Array, groupSize: number): void {
  checkRotate(x, groupSize);
  for (let start = 0; start < x.length; start += groupSize) {
    for (let stride = groupSize / 4; stride >= 1; stride /= 4) {
      for (let i = 0; i < groupSize; i++) {
        const isFirstOfFour = Math.floor(i / stride) % 4 === 0;
        if (isFirstOfFour) butterfly(x, start + i, stride);
      }
    }
  }
}

/** Four values, `stride` apart, times H4 / 2. */
function butterfly(x: Float32Array, i: number, stride: number): void {
  const a = x[i]!, b = x[i + stride]!, c = x[i + 2 * stride]!, d = x[i + 3 * stride]!;
  const h = f32(f32(f32(a + d) + f32(b + c)) * 0.5);
  x[i] = h - d;
  x[i + stride] = h - c;
  x[i + 2 * stride] = h - b;
  x[i + 3 * stride] = h - a;
}
