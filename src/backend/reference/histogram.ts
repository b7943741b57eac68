/** histogram: see `Kernels.histogram`, `asm/histogram.ts`. */

import { checkHistogram } from "../kernel_checks.ts";

/** counts[min(floor(|x| * binsPerUnit), counts.length - 1)] += 1. NaN counts in bin 0. */
export function histogram(counts: Uint32Array, x: Float32Array, binsPerUnit: number): void {
  checkHistogram(counts);
  const factor = Math.fround(binsPerUnit);
  for (const value of x) {
    const t = Math.fround(Math.abs(value) * factor);
    const bin = Number.isNaN(t) ? 0 : Math.min(Math.floor(t), counts.length - 1);
    counts[bin]!++;
  }
}
