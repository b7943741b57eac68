/** addLowRank: see `LinalgKernels.addLowRank`, `asm/linalg/add_low_rank.ts`. */

import { checkAddLowRank } from "../../../linalg/linalg_checks.ts";

const f32 = Math.fround;

/** x += b·a, sums first. */
export function addLowRank(
  x: Float32Array,
  b: Float32Array,
  a: Float32Array,
  shape: { readonly rows: number; readonly cols: number; readonly rank: number },
): void {
  checkAddLowRank(x, b, a, shape);
  const { rows, cols, rank } = shape;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum = f32(sum + f32(b[r * rank + k]! * a[k * cols + c]!));
      x[r * cols + c] = x[r * cols + c]! + sum;
    }
  }
}
