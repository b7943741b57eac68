/** weighSquares: see `LinalgKernels.weighSquares`, `asm/linalg/weigh_squares.ts`. */

import { checkWeighSquares } from "../../../linalg/linalg_checks.ts";
import type { MatrixF32 } from "../../../linalg/matrix.ts";

/** out[i] = the sum of (x[i, j] * weights[j])². */
export function weighSquares(
  out: Float64Array,
  x: MatrixF32,
  weights: Float64Array | null,
): void {
  checkWeighSquares(out, x, weights);
  for (let i = 0; i < x.rows; i++) {
    let sum = 0;
    for (let j = 0; j < x.cols; j++) {
      const value = x.data[i * x.rowStride + j]! * (weights?.[j] ?? 1);
      sum += value * value;
    }
    out[i] = sum;
  }
}
