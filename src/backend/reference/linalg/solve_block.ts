/** solveBlock: see `LinalgKernels.solveBlock`, `asm/linalg/solve_block.ts`. */

import { checkSolveBlock } from "../../../linalg/linalg_checks.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** Forward substitution: X·Lᵀ = x, in place. */
export function solveBlock(x: MatrixF64, l: MatrixF64): void {
  checkSolveBlock(x, l);
  for (let r = 0; r < x.rows; r++) {
    const row = r * x.rowStride;
    for (let j = 0; j < x.cols; j++) {
      let value = x.data[row + j]!;
      for (let k = 0; k < j; k++) value -= x.data[row + k]! * l.data[j * l.rowStride + k]!;
      x.data[row + j] = value / l.data[j * l.rowStride + j]!;
    }
  }
}
