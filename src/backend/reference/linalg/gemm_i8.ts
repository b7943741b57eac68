/** gemmI8: see `LinalgKernels.gemmI8`, `asm/linalg/gemm_i8.ts`. */

import { checkGemmI8 } from "../../../linalg/linalg_checks.ts";

/** out[i, j] = sum over k of a[i, k] * b[j, k]. The sums are exact integers. */
export function gemmI8(
  out: Int32Array,
  a: Int8Array,
  b: Int8Array,
  m: number,
  n: number,
  k: number,
): void {
  checkGemmI8(out, a, b, m, n, k);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let t = 0; t < k; t++) sum += a[i * k + t]! * b[j * k + t]!;
      out[i * n + j] = sum;
    }
  }
}
