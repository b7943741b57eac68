/** scaleSums: see `LinalgKernels.scaleSums`, `asm/linalg/scale_sums.ts`. */

import { checkScaleSums } from "../../../linalg/linalg_checks.ts";

/** out[i, j] = sums[i, j] * rowScales[i] * colScales[j], or is increased by it. */
export function scaleSums(
  out: Float32Array,
  sums: Int32Array,
  scales: { readonly rowScales: Float32Array; readonly colScales: Float32Array },
  add: boolean,
): void {
  checkScaleSums(out, sums, scales);
  const { rowScales, colScales } = scales, cols = colScales.length;
  for (let at = 0; at < sums.length; at++) {
    const row = rowScales[Math.floor(at / cols)]!, col = colScales[at % cols]!;
    const value = Math.fround(Math.fround(Math.fround(sums[at]!) * row) * col);
    out[at] = add ? out[at]! + value : value;
  }
}
