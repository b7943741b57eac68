/** Element and byte counts of shapes, with overflow checks. */

import { type DType, DTYPE_BITS } from "./dtype.ts";

/**
 * Returns the number of elements of `shape` (1 for a scalar `[]`), or `undefined` if it is not a
 * safe integer (more than 2^53 - 1 elements).
 */
export function elementCount(shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

/**
 * Returns the size in bytes of a tensor, or `undefined` if it overflows or if a sub-byte dtype
 * does not fill its last byte.
 */
export function byteLength(dtype: DType, shape: readonly number[]): number | undefined {
  const count = elementCount(shape);
  if (count === undefined) return undefined;
  const bits = count * DTYPE_BITS[dtype];
  if (!Number.isSafeInteger(bits) || bits % 8 !== 0) return undefined;
  return bits / 8;
}

/** Returns `[rows, cols]` of a tensor as a matrix: the first axis, and all others together. */
export function matrixShape(shape: readonly number[]): [rows: number, cols: number] {
  return [shape[0] ?? 1, shape.slice(1).reduce((product, size) => product * size, 1)];
}
