/** gatherColumns, scatterColumns, permuteSymmetric: see `LinalgKernels`, `asm/linalg/permute.ts`. */

import { checkColumnOrder, checkPermute } from "../../../linalg/linalg_checks.ts";
import type { ShortRows } from "../../../linalg/linalg_kernels.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** out[i, k] = x[i, order[k]]. */
export function gatherColumns(out: ShortRows, x: ShortRows, order: Int32Array): void {
  checkColumnOrder("gatherColumns", out, x, order);
  for (let i = 0; i < x.rows; i++) {
    const to = i * out.rowStride, from = i * x.rowStride;
    for (let k = 0; k < order.length; k++) out.data[to + k] = x.data[from + order[k]!]!;
  }
}

/** out[i, order[k]] = x[i, k]. */
export function scatterColumns(out: ShortRows, x: ShortRows, order: Int32Array): void {
  checkColumnOrder("scatterColumns", out, x, order);
  for (let i = 0; i < x.rows; i++) {
    const to = i * out.rowStride, from = i * x.rowStride;
    for (let k = 0; k < order.length; k++) out.data[to + order[k]!] = x.data[from + k]!;
  }
}

/** h[i, j] = h[order[i], order[j]]. */
export function permuteSymmetric(h: MatrixF64, order: Int32Array, spare: Float64Array): void {
  checkPermute(h, order, spare);
  const { data, rowStride, rows: n } = h, before = data.slice();
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      data[i * rowStride + j] = before[order[i]! * rowStride + order[j]!]!;
    }
  }
}
