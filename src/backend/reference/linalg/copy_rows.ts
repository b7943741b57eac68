/** copyRows: see `LinalgKernels.copyRows`, `asm/linalg/copy_rows.ts`. */

import { checkCopyRows } from "../../../linalg/linalg_checks.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** to = from. */
export function copyRows(to: MatrixF64, from: MatrixF64): void {
  checkCopyRows(to, from);
  for (let i = 0; i < from.rows; i++) {
    const start = i * from.rowStride;
    to.data.set(from.data.subarray(start, start + from.cols), i * to.rowStride);
  }
}
