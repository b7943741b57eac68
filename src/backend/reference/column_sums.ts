/** addColumns, addSquares: see `CpuKernels`, `asm/column_sums.ts`. */

import { checkColumns } from "../kernel_checks.ts";

/** Adds the values of every column to its sum, in f64. */
export function addColumns(sums: Float64Array, x: Float32Array): void {
  checkColumns("addColumns", sums, x);
  x.forEach((value, i) => sums[i % sums.length]! += value);
}

/** Adds the squares of the values of every column to its sum, in f64. */
export function addSquares(squares: Float64Array, x: Float32Array): void {
  checkColumns("addSquares", squares, x);
  x.forEach((value, i) => squares[i % squares.length]! += value * value);
}
