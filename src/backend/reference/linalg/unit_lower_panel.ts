/** unitLowerPanel, divideColumns: see `LinalgKernels`, `asm/linalg/unit_lower_panel.ts`. */

import { checkDivideColumns, checkUnitLowerPanel } from "../../../linalg/linalg_checks.ts";
import type { MatrixF32, MatrixF64 } from "../../../linalg/matrix.ts";

/** Columns divided by their diagonal elements, rounded to f32; 1 on the diagonal, 0 above. */
export function unitLowerPanel(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void {
  checkUnitLowerPanel(out, l, diagonal);
  for (let i = 0; i < l.rows; i++) {
    for (let j = 0; j < l.cols; j++) {
      const below = l.data[i * l.rowStride + j]! / diagonal[j]!;
      out.data[i * out.rowStride + j] = i > j ? below : i === j ? 1 : 0;
    }
  }
}

/** Columns divided by numbers of their own, rounded to f32. */
export function divideColumns(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void {
  checkDivideColumns(out, l, diagonal);
  for (let i = 0; i < l.rows; i++) {
    for (let j = 0; j < l.cols; j++) {
      out.data[i * out.rowStride + j] = l.data[i * l.rowStride + j]! / diagonal[j]!;
    }
  }
}
