/**
 * What every backend checks before a kernel runs: sizes that fit together. A kernel that trusted a wrong
 * size would write over whatever lies behind its output.
 */

import { DTYPE_BITS, type FloatDType } from "../core/dtype.ts";
import { type Grid, groupCount, STATS_LENGTH } from "./backend.ts";

function fail(kernel: string, fact: string): never {
  throw new RangeError(`Cannot run ${kernel}: ${fact}`);
}

function requireLength(kernel: string, name: string, have: number, need: number): void {
  if (have !== need) fail(kernel, `${name} has ${have} elements, needs ${need}`);
}

/**
 * Checks that the groups of `grid` tile it, and that `values` (by name) have one element per matrix
 * element and `scales` one per group.
 *
 * @throws RangeError naming the kernel, the array, what it has and what it needs.
 */
export function checkGrid(
  kernel: string,
  grid: Grid,
  values: Readonly<Record<string, ArrayLike<number>>>,
  scales: Readonly<Record<string, ArrayLike<number>>>,
): void {
  const { rows, cols, groupRows, groupCols } = grid;
  const sizes = [rows, cols, groupRows, groupCols];
  if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    fail(kernel, `grid ${JSON.stringify(sizes)} must be whole numbers`);
  }
  if (groupRows < 1 || groupCols < 1 || rows % groupRows !== 0 || cols % groupCols !== 0) {
    fail(kernel, `groups of ${groupRows} x ${groupCols} do not tile ${rows} x ${cols}`);
  }
  for (const name in values) requireLength(kernel, name, values[name]!.length, rows * cols);
  for (const name in scales) requireLength(kernel, name, scales[name]!.length, groupCount(grid));
}

/** Checks that `b` is as long as `a`. @throws RangeError */
export function checkSameLength(
  kernel: string,
  a: ArrayLike<number>,
  b: ArrayLike<number>,
): void {
  if (a.length !== b.length) fail(kernel, `arrays of ${a.length} and ${b.length} elements differ`);
}

/** Checks that `source` holds `out.length` elements of `dtype`. @throws RangeError */
export function checkDecode(out: Float32Array, source: Uint8Array, dtype: FloatDType): void {
  requireLength("decode", "source", source.length, out.length * (DTYPE_BITS[dtype] / 8));
}

/** Checks that `groupSize` is a power of 4 that divides the length of `x`. @throws RangeError */
export function checkRotate(x: Float32Array, groupSize: number): void {
  if (!isPowerOfFour(groupSize)) fail("rotate", `group size ${groupSize} is not a power of 4`);
  if (x.length % groupSize !== 0) {
    fail("rotate", `group size ${groupSize} does not divide ${x.length} elements`);
  }
}

/** Checks that there is a bin. @throws RangeError */
export function checkHistogram(counts: Uint32Array): void {
  if (counts.length === 0) fail("histogram", "counts has no elements");
}

/** Checks the accumulator and the two inputs. @throws RangeError */
export function checkErrorStats(
  stats: Float64Array,
  x: Float32Array,
  xhat: Float32Array,
): void {
  requireLength("errorStats", "stats", stats.length, STATS_LENGTH);
  checkSameLength("errorStats", x, xhat);
}

/** Whether `size` is 1, 4, 16, 64, ... (up to 4^15). */
export function isPowerOfFour(size: number): boolean {
  // A power of two has one bit; those of four have it at an even place.
  return Number.isInteger(size) && size > 0 && size < 2 ** 31 && (size & (size - 1)) === 0 &&
    (size & 0x55555555) !== 0;
}
