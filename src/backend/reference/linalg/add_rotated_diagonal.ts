/** addRotatedDiagonal: see `LinalgKernels.addRotatedDiagonal`, `asm/linalg/add_rotated_diagonal.ts`. */

import { checkRotatedDiagonal } from "../../../linalg/linalg_checks.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

/** h[i, j] += row[i xor j], or its negative. */
export function addRotatedDiagonal(h: MatrixF64, row: Float64Array): void {
  checkRotatedDiagonal(h, row);
  const { data, rowStride, rows: n } = h;
  for (let i = 0; i < n; i++) {
    const at = i * rowStride, swapped = swapBits(i);
    for (let j = 0; j < n; j++) {
      const value = row[i ^ j]!;
      data[at + j] = data[at + j]! + (isOdd(swapped & (i ^ j)) ? -value : value);
    }
  }
}

/** `bits` with those of every pair exchanged. */
function swapBits(bits: number): number {
  return (bits & 0x55555555) << 1 | (bits >>> 1) & 0x55555555;
}

/** Whether an odd number of `bits` is set. */
function isOdd(bits: number): boolean {
  let count = 0;
  for (let rest = bits; rest !== 0; rest >>>= 1) count += rest & 1;
  return count % 2 === 1;
}
