/** choleskyBlock: see `LinalgKernels.choleskyBlock`, `asm/linalg/cholesky_block.ts`. */

import { checkSquare } from "../../../linalg/linalg_checks.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** Factors in place; returns -1 or the index of the first unusable pivot. */
export function choleskyBlock(a: MatrixF64, minPivot: number): number {
  checkSquare("choleskyBlock", "a", a);
  const { data, rowStride } = a;
  for (let j = 0; j < a.rows; j++) {
    const row = j * rowStride;
    let pivot = data[row + j]!;
    for (let k = 0; k < j; k++) pivot -= data[row + k]! * data[row + k]!;
    if (!(pivot > minPivot && pivot < Infinity)) return j;
    const diagonal = Math.sqrt(pivot);
    data[row + j] = diagonal;
    for (let i = j + 1; i < a.rows; i++) {
      const other = i * rowStride;
      let value = data[other + j]!;
      for (let k = 0; k < j; k++) value -= data[other + k]! * data[row + k]!;
      data[other + j] = value / diagonal;
    }
  }
  return -1;
}
