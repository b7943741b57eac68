/** rotatedAbsmax: see `CpuKernels.rotatedAbsmax`, `asm/rotate.ts`. */

import { rotate } from "./rotate.ts";

/** The larger of `least` and the largest magnitude of what `x` is rotated to. */
export function rotatedAbsmax(x: Float32Array, groupSize: number, least: number): number {
  rotate(x, groupSize);
  let largest = Math.fround(least);
  for (const value of x) {
    if (Math.abs(value) > largest) largest = Math.abs(value);
  }
  return largest;
}
