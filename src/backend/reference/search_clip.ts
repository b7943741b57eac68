/** searchClip: see `CpuKernels.searchClip`, `asm/search_clip.ts`. */

import { checkSearchClip } from "../kernel_checks.ts";
import { roundHalfEven } from "./round_half_even.ts";

/** Values whose errors are added up in f32. */
const RUN = 1024;

const { fround } = Math;

/** Shrinks the scale of each row to the share of least squared error. */
export function searchClip(
  scales: Float32Array,
  x: Float32Array,
  shares: Float32Array,
  cols: number,
): void {
  checkSearchClip(scales, x, cols);
  scales.forEach((scale, r) => {
    const quotients = x.subarray(r * cols, (r + 1) * cols).map((value) => value / scale);
    let least = Infinity;
    for (const share of shares) {
      const error = squaredError(quotients, share);
      if (!(error < least)) continue;
      least = error;
      scales[r] = scale * share;
    }
  });
}

function squaredError(quotients: Float32Array, share: number): number {
  const inverse = fround(1 / share), lanes = new Float32Array(4);
  let sum = 0;
  for (let start = 0; start < quotients.length; start += RUN) {
    lanes.fill(0);
    quotients.subarray(start, start + RUN).forEach((t, k) => {
      const code = Math.max(-7, Math.min(7, roundHalfEven(fround(t * inverse))));
      const error = fround(t - fround(code * share));
      lanes[k % 4] = lanes[k % 4]! + fround(error * error);
    });
    sum += fround(fround(lanes[0]! + lanes[1]!) + fround(lanes[2]! + lanes[3]!));
  }
  return sum;
}
