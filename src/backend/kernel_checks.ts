/**
 * Checks of every backend before a kernel runs: sizes that fit together. A kernel that trusted a wrong
 * size would write over whatever lies behind its output.
 */

import { DTYPE_BITS, type FloatDType } from "../core/dtype.ts";
import {
  FLOAT_GROUP_COLS,
  type FloatRounding,
  type Grid,
  groupCount,
  LEVEL_TABLE,
  type LevelPacking,
  type LevelSearch,
  type LevelSets,
  STATS_LENGTH,
  type StepRounding,
  STEPS_BYTES,
  TABLE_BYTES,
  TABLE_ERROR_BYTES,
  type TableRounding,
} from "./backend.ts";

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

/**
 * Checks that the groups of `sets` tile the rows of `grid`, and that the set of each is there. @throws
 * RangeError
 */
export function checkLevels(
  kernel: string,
  grid: Grid,
  sets: LevelSets & { readonly choices: Uint8Array },
): void {
  checkSets(kernel, grid, sets, sets.choices);
}

/** The same for sets that are to be chosen. @throws RangeError */
export function checkLevelSearch(
  kernel: string,
  grid: Grid,
  search: LevelSearch & { readonly choices: Uint8Array },
): void {
  const { first, candidates } = search;
  checkSets(kernel, grid, search, first);
  requireLength(kernel, "first", first.length, 256);
  if (!Number.isSafeInteger(candidates) || candidates < 1) {
    fail(kernel, `${candidates} candidates are no positive number of sets`);
  }
}

/** Checks sets of at most 16 levels and the groups that get one of them each. @throws RangeError */
export function checkTableRounding(
  grid: Grid,
  choices: Uint8Array,
  { groupCols, steps, first, errors }: TableRounding,
): void {
  const sets = steps.length / TABLE_BYTES;
  requireLength("roundToTable", "errors", errors.length, sets * TABLE_ERROR_BYTES);
  checkRounding("roundToTable", grid, { choices, groupCols, first, sets, bins: 128 });
}

/** Checks sets of evenly spaced levels and the groups that get one of them each. @throws RangeError */
export function checkStepRounding(
  grid: Grid,
  choices: Uint8Array,
  { groupCols, steps, first }: StepRounding,
): void {
  const sets = steps.length / STEPS_BYTES;
  checkRounding("roundToSteps", grid, { choices, groupCols, first, sets, bins: 256 });
}

/** Checks that codes, scales of groups and values are as many as `x` needs. @throws RangeError */
export function checkRoundFloats(
  codes: Uint8Array,
  groupScales: Uint8Array,
  { values, x }: { readonly values: Float32Array; readonly x: Float32Array },
  { kind, scale }: FloatRounding,
): void {
  const kernel = "roundFloats", cols = FLOAT_GROUP_COLS[kind], { length } = x;
  if (length % (cols ?? 1) !== 0) fail(kernel, `groups of ${cols} do not divide ${length} values`);
  if (!(scale >= 2 ** -126)) fail(kernel, `the scale is ${scale}, needs at least 2^-126`);
  requireLength(kernel, "codes", codes.length, kind === "e2m1Groups" ? length / 2 : length);
  requireLength(kernel, "groupScales", groupScales.length, cols === null ? 0 : length / cols);
  requireLength(kernel, "values", values.length, length);
}

/** Checks that every scale has a row of whole vectors. @throws RangeError */
export function checkSearchClip(scales: Float32Array, x: Float32Array, cols: number): void {
  if (cols < 4 || cols % 4 !== 0) fail("searchClip", `${cols} columns are no multiple of 4`);
  requireLength("searchClip", "scales", scales.length, x.length / cols);
}

function checkRounding(
  kernel: string,
  { rows, cols, groupCols: scaleCols }: Grid,
  { choices, groupCols, first, sets, bins }: {
    readonly choices: Uint8Array;
    readonly groupCols: number;
    readonly first: Uint8Array;
    readonly sets: number;
    readonly bins: number;
  },
): void {
  if (!Number.isSafeInteger(groupCols) || groupCols < 16 || groupCols % 16 !== 0) {
    fail(kernel, `groups of ${groupCols} columns are no multiple of 16`);
  }
  if (scaleCols % groupCols !== 0) {
    fail(kernel, `groups of ${groupCols} do not tile ${scaleCols} columns under one scale`);
  }
  requireLength(kernel, "choices", choices.length, rows * (cols / groupCols));
  requireLength(kernel, "first", first.length, bins);
  if (first.some((set) => set >= sets)) {
    fail(kernel, `first names sets that are not among the ${sets}`);
  }
}

/** Checks that levels are whole rows of groups whose sets are there, and that their codes fit. @throws RangeError */
export function checkPackLevels(
  packed: Uint8Array,
  levels: Int8Array,
  { bits, cols, groupCols, choices, codes }: LevelPacking,
): void {
  const kernel = "packLevels";
  if (!Number.isSafeInteger(groupCols) || groupCols < 16 || groupCols % 16 !== 0) {
    fail(kernel, `groups of ${groupCols} columns are no multiple of 16`);
  }
  if (!Number.isSafeInteger(cols) || cols < 1 || cols % groupCols !== 0) {
    fail(kernel, `groups of ${groupCols} do not tile ${cols} columns`);
  }
  requireLength(kernel, "levels", levels.length, choices.length * groupCols);
  if (levels.length % cols !== 0) {
    fail(kernel, `${levels.length} levels are no whole rows of ${cols} columns`);
  }
  requireLength(kernel, "packed", packed.length, levels.length * bits / 8);
  const count = codes.length / 256;
  requireSets(kernel, choices, count, "codes");
}

function checkSets(
  kernel: string,
  { rows, cols, groupCols: scaleCols }: Grid,
  { groupCols, nearest, choices }: LevelSets & { readonly choices: Uint8Array },
  named: Uint8Array,
): void {
  if (!Number.isSafeInteger(groupCols) || groupCols < 16 || groupCols % 16 !== 0) {
    fail(kernel, `groups of ${groupCols} columns are no multiple of 16`);
  }
  if (scaleCols % 16 !== 0) fail(kernel, `scales of ${scaleCols} columns are no multiple of 16`);
  if (cols % groupCols !== 0) fail(kernel, `groups of ${groupCols} do not tile ${cols} columns`);
  requireLength(kernel, "choices", choices.length, rows * (cols / groupCols));
  if (nearest.length === 0 || nearest.length % LEVEL_TABLE !== 0) {
    fail(kernel, `nearest has ${nearest.length} elements, no multiple of ${LEVEL_TABLE}`);
  }
  const count = nearest.length / LEVEL_TABLE;
  requireSets(kernel, named, count, "nearest");
}

function requireSets(kernel: string, named: Uint8Array, count: number, of: string): void {
  for (let g = 0; g < named.length; g++) {
    if (named[g]! >= count) fail(kernel, `set ${named[g]} is not among the ${count} of ${of}`);
  }
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
export function checkRotate(x: { readonly length: number }, groupSize: number): void {
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
  checkStats("errorStats", stats);
  checkSameLength("errorStats", x, xhat);
}

/** Checks the length of the accumulator. @throws RangeError */
export function checkStats(kernel: string, stats: Float64Array): void {
  requireLength(kernel, "stats", stats.length, STATS_LENGTH);
}

/** Checks rows of BF16 values, one per scale, and returns the length of a row. @throws RangeError */
export function checkBf16Rows(
  { codes, scales, stats, source }: {
    readonly codes: Int8Array;
    readonly scales: Float32Array;
    readonly stats: Float64Array;
    readonly source: Uint8Array;
  },
): { readonly cols: number } {
  const kernel = "quantizeBf16Rows", rows = scales.length;
  checkStats(kernel, stats);
  return { cols: colsOfBf16(kernel, source, { what: "codes", count: codes.length, rows }) };
}

/** Returns the length of a row of BF16 values that become `count` of something. @throws RangeError */
function colsOfBf16(
  kernel: string,
  source: Uint8Array,
  { what, count, rows }: { what: string; count: number; rows: number },
): number {
  requireLength(kernel, "source", source.length, 2 * count);
  if (count % Math.max(1, rows) !== 0) fail(kernel, `${count} ${what} are no ${rows} rows`);
  return rows === 0 ? 0 : count / rows;
}

/** Checks rows of BF16 values that are rotated, and returns the length of a row. @throws RangeError */
export function checkRotatedRows(
  { x, largest, source, groupSize }: {
    readonly x: Float32Array;
    readonly largest: Float32Array;
    readonly source: Uint8Array;
    readonly groupSize: number;
  },
): { readonly cols: number } {
  const kernel = "rotateBf16Rows", rows = largest.length;
  const cols = colsOfBf16(kernel, source, { what: "values", count: x.length, rows });
  checkRotate({ length: cols }, groupSize);
  return { cols };
}

/** Checks that x is rows of as many columns as there are sums, and returns how many. @throws RangeError */
export function checkColumns(kernel: string, sums: Float64Array, x: Float32Array): number {
  const cols = sums.length;
  if (x.length % Math.max(1, cols) !== 0) fail(kernel, `${x.length} values are no rows of ${cols}`);
  return cols === 0 ? requireNone(kernel, x) : x.length / cols;
}

function requireNone(kernel: string, x: Float32Array): number {
  requireLength(kernel, "x", x.length, 0);
  return 0;
}

/** Checks that a and b are as many rows as there are sums, and returns their columns. @throws RangeError */
export function checkRowSums(
  kernel: string,
  sums: Float64Array,
  { a, b }: { readonly a: Float32Array; readonly b: Float32Array },
): number {
  const rows = sums.length;
  requireLength(kernel, "b", b.length, a.length);
  if (rows === 0) return requireNone(kernel, a);
  if (a.length % rows !== 0) fail(kernel, `${a.length} values are no ${rows} rows`);
  return a.length / rows;
}

/** The same, and that there is a weight for every column. @throws RangeError */
export function checkWeighed(
  sums: Float64Array,
  weights: Float64Array,
  values: { readonly a: Float32Array; readonly b: Float32Array },
): number {
  const kernel = "weighDifferences", cols = checkRowSums(kernel, sums, values);
  if (sums.length > 0) requireLength(kernel, "weights", weights.length, cols);
  return cols;
}

/** Checks that arrays are as long, and that bias is that of whole rows. @throws RangeError */
export function checkSquaredError(
  a: Float32Array,
  b: Float32Array | null,
  bias: Float32Array | null,
): void {
  const kernel = "squaredError";
  if (b !== null) requireLength(kernel, "b", b.length, a.length);
  if (bias === null || a.length === 0) return;
  if (bias.length === 0 || a.length % bias.length !== 0) {
    fail(kernel, `${a.length} values are no rows of ${bias.length}`);
  }
}

/** Whether `size` is 1, 4, 16, 64, ... (up to 4^15). */
function isPowerOfFour(size: number): boolean {
  // A power of two has one bit; those of four have it at an even place.
  return Number.isInteger(size) && size > 0 && size < 2 ** 31 && (size & (size - 1)) === 0 &&
    (size & 0x55555555) !== 0;
}
