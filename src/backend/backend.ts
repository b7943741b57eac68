/**
 * The kernels every backend has, on typed array views. One truth for what they compute is
 * `reference/`; `cpu/` runs the same on WASM SIMD, bit for bit where a kernel is *exact*.
 *
 * A matrix is `rows x cols`, row-major, contiguous. Scales belong to *groups*: rectangles of
 * `groupRows x groupCols` elements that tile the matrix, `groupRows` dividing rows and `groupCols`
 * dividing cols; their scales are stored row-major as `[rows / groupRows, cols / groupCols]`. Row
 * scaling is `1 x cols`, a 2-D block `bs x bs`, row-by-group `1 x g`, one scale for all `rows x cols`.
 *
 * Views given to the CPU backend must lie in its WebAssembly memory: take them from its `Arena`.
 */

import type { FloatDType } from "../core/dtype.ts";

/** A matrix and how its scales tile it. All sizes in elements. */
export interface Grid {
  /** Rows of the matrix. */
  readonly rows: number;
  /** Columns of the matrix. */
  readonly cols: number;
  /** Rows that share a scale. */
  readonly groupRows: number;
  /** Columns that share a scale. */
  readonly groupCols: number;
}

/** Number of scales of a grid. */
export function groupCount(grid: Grid): number {
  return (grid.rows / grid.groupRows) * (grid.cols / grid.groupCols);
}

/** Values are looked up in units of 1 / LEVEL_STEPS of a scale. */
export const LEVEL_STEPS = 32;

/** Magnitudes of so many units are as far as levels are looked up: 256 scales. */
export const LEVEL_UNITS_MAX = 8191;

/** Entries of the table of a set of levels. */
export const LEVEL_TABLE = 512;

/**
 * The levels of a format whose codes stand for few of the integers from -127 to 127: each group of columns of
 * a row has one of several sets of levels. `quant/level_grid.ts` makes the tables.
 */
export interface LevelSets {
  /** Columns of a row that share a set, a multiple of 16 that divides the columns. */
  readonly groupCols: number;
  /**
   * Of every set the level nearest to each multiple of 1/2, i8 `[sets, LEVEL_TABLE]`: entry h + 255 is for
   * values above (h - 1) / 2, up to h / 2; the first and the last for all beyond.
   */
  readonly nearest: Int8Array;
}

/** How the set of a group is chosen. */
export interface LevelSearch extends LevelSets {
  /** The first candidate for a group whose largest magnitude is from i to i + 1 scales, u8 `[256]`. */
  readonly first: Uint8Array;
  /** How many sets are tried: the first one and those before it. */
  readonly candidates: number;
}

/** How many sets are tried for a group where set and levels are found at once. */
export const LEVEL_CANDIDATES = 4;

/** Bytes of a set in {@link TableRounding.steps}. */
export const TABLE_BYTES = 48;

/** Bytes of a set in {@link TableRounding.errors}. */
export const TABLE_ERROR_BYTES = 256 * 2 * LEVEL_CANDIDATES;

/** Sets of at most 16 levels, in the order of their steps. */
export interface TableRounding {
  /** Columns of a row that share a set, a multiple of 16 that divides the columns under a scale. */
  readonly groupCols: number;
  /**
   * i8 `[sets, TABLE_BYTES]`: a byte that is not used, and the 15 middles between the levels of a set, rounded down,
   * as a binary tree whose node i has the nodes 2 i below and 2 i + 1 above; its 16 levels, ascending; and the
   * middles, ascending, -128 in the place of those that are no integers, and at the end.
   */
  readonly steps: Int8Array;
  /** The first candidate for a group by its largest magnitude in whole scales, u8 `[128]`. */
  readonly first: Uint8Array;
  /**
   * u16 `[sets, 256, LEVEL_CANDIDATES]`, as bytes: min((c - level)^2, 4095) for whole scales c from -128 on, level
   * the one that the middles give, of a set and those before it. Some backends look errors up there.
   */
  readonly errors: Uint8Array;
}

/** Bytes of a set in {@link StepRounding.steps}. */
export const STEPS_BYTES = 80;

/** Sets of levels that are evenly spaced, as far below 0 as above, in the order of their steps. */
export interface StepRounding {
  /** Columns of a row that share a set, a multiple of 16 that divides the columns under a scale. */
  readonly groupCols: number;
  /**
   * u8 `[sets, STEPS_BYTES]`: for each of 32 magnitudes of a set twice the middle between it and the next one, 255
   * where there is none; the magnitudes, ascending from 0, whole numbers within 1/2 of multiples of a step that
   * is at least 1; 2^14 over that step, rounded, in two bytes; a byte that is not 0 if the codes of a file are not the
   * places of magnitudes; the rest is not used.
   */
  readonly steps: Uint8Array;
  /** As in {@link LevelSearch}. */
  readonly first: Uint8Array;
}

/** Rows whose groups all have the same set of levels, as far above 0 as below. */
export interface OneSet {
  readonly kind: "one";
  /** Columns under a choice, which is 0: a multiple of 16 that divides the columns. */
  readonly groupCols: number;
  /** i8 `[LEVEL_TABLE]`: see {@link LevelSets}. */
  readonly nearest: Int8Array;
  /** The largest level: it stands for the largest value of a row. */
  readonly most: number;
  /** What scales may shrink to: see `searchClip`. Null: they do not. */
  readonly shares: Float32Array | null;
}

/** How values become floats of few bits. */
export interface FloatRounding {
  /** E4M3 under one scale, or a power of 2 per 32 columns; E2M1 under an E4M3 scale per 16 columns. */
  readonly kind: "e4m3" | "e4m3Groups" | "e2m1Groups";
  /** The scale of all values, at least 2^-126; of `e4m3Groups` it is not used. */
  readonly scale: number;
  /** Whether scales near that which reaches the largest value of a group are tried. */
  readonly search: boolean;
}

/** Columns of a group; null: all values have one scale. */
export const FLOAT_GROUP_COLS: Readonly<Record<FloatRounding["kind"], number | null>> = Object
  .freeze({ e4m3: null, e4m3Groups: 32, e2m1Groups: 16 });

/** How levels become the codes of a file. */
export interface LevelPacking {
  /** Bits of a code. */
  readonly bits: 4 | 6;
  /** Columns of a row. */
  readonly cols: number;
  /** Columns of a row that share a set, a multiple of 16 that divides the columns. */
  readonly groupCols: number;
  /** The set of every group, u8 `[rows, cols / groupCols]`. */
  readonly choices: Uint8Array;
  /** The code of every level of a set, u8 `[sets, 256]`, at level + 128. */
  readonly codes: Uint8Array;
  /**
   * The sets once more, if `codes` are those that they have: places among the 16 levels, the first of those that are
   * the same; or 32 and the place among the magnitudes, with its sign. Some backends are faster with them.
   */
  readonly rounding?: LevelRounding | null;
}

/** Sets of levels of either kind. */
export type LevelRounding =
  | (TableRounding & { readonly kind: "table" })
  | (StepRounding & { readonly kind: "steps" });

/** Slots of the f64 accumulator that `errorStats` adds to. */
export const STATS = Object.freeze({
  /** Sum of (x - xhat)^2. */
  squaredError: 0,
  /** Sum of x^2. */
  squaredSignal: 1,
  /** Sum of xhat^2. */
  squaredDequantized: 2,
  /** Sum of x * xhat. */
  dot: 3,
  /** Largest |x - xhat| (a maximum, not a sum). */
  maxAbsError: 4,
  /** Number of elements. */
  count: 5,
});

/** Length of the `errorStats` accumulator. */
export const STATS_LENGTH = 6;

/** Values whose errors a GPU adds up in f32 before the host adds in f64. */
export const ERROR_RUN_VALUES = 1024;

/** Kinds of work that a GPU does, by which a run says what it needs. */
export type GpuWork =
  | "rounding"
  | "searching scales"
  | "rotating"
  | "rotating large groups"
  | "merging"
  | "rounding to tables"
  | "rounding to steps"
  | "rounding to one set"
  | "searching clips"
  | "rounding to floats"
  | "moments"
  | "compensation"
  | "compensation in f16"
  | "compensation on levels"
  | "compensation on levels in f16"
  | "learning"
  | "measuring"
  | "products"
  | "int8 products"
  | "transforms";

/** Values of the largest groups that a GPU rotates in the memory of a workgroup. */
export const GPU_ROTATION_MAX = 1024;

/** Places of values that cannot be quantized. */
export interface NonFinite {
  /** How many elements are NaN or infinite. */
  count: number;
  /** Flat index of the first one, -1 where there is none. */
  first: number;
}

/**
 * The operations that differ between devices. Output first, then inputs, sizes, scalars. All throw a
 * RangeError, before they write, where sizes do not fit together. *Exact*: the same bits on every
 * backend for any input, except that a NaN may be any NaN.
 */
export interface Kernels {
  readonly name: "reference" | "wasm";

  /** out[i] = f32(source[i]); `source` holds `out.length` elements of `dtype`, little-endian. F64 rounds. Exact. */
  decode(out: Float32Array, source: Uint8Array, dtype: FloatDType): void;

  /** Counts NaN and infinities of `x`. Exact. */
  countNonFinite(x: Float32Array): NonFinite;

  /** out[g] = max |x| over group g; NaN is ignored. Exact. */
  absmax(out: Float32Array, x: Float32Array, grid: Grid): void;

  /** scales[g] = max(absmax[g] / 127, 1e-30), in f32 with a true division. `scales` may be `absmax`. Exact. */
  scaleFromAbsmax(scales: Float32Array, absmax: Float32Array): void;

  /**
   * codes = clamp(roundHalfEven(x / scale), -127, 127), a true f32 division. NaN, also that of 0 / 0 or
   * inf / inf, becomes 0. Exact.
   */
  quantize(codes: Int8Array, x: Float32Array, scales: Float32Array, grid: Grid): void;

  /**
   * codes = the level nearest to x / scale, of the set that each group of columns has: `choices` u8
   * `[rows, cols / groupCols]`. The quotient is a true one, rounded to units of 1 / LEVEL_STEPS; of two levels
   * as near the lower one. NaN counts as 0. Exact.
   */
  quantizeLevels(
    codes: Int8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    sets: LevelSets & { readonly choices: Uint8Array },
  ): void;

  /**
   * choices[g] = of the candidates the set whose levels, as `quantizeLevels` chooses them, have the least
   * squared error in group g; of several the first. Errors are integers, in units of 1 / LEVEL_STEPS. Exact.
   */
  searchLevels(
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    search: LevelSearch,
  ): void;

  /**
   * choices[g] = of LEVEL_CANDIDATES sets the one whose levels are nearest to the values of group g in whole scales,
   * in squares of at most 4095; of several the first. codes = the level of that set nearest to x / scale, as `quantizeLevels`
   * has it. Exact.
   */
  roundToTable(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: TableRounding,
  ): void;

  /** choices and codes as `searchLevels` with LEVEL_CANDIDATES and `quantizeLevels` find them. Exact. */
  roundToSteps(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: StepRounding,
  ): void;

  /**
   * packed = the codes of levels i8 `[rows, cols]`, u8 `[rows, cols * bits / 8]`: a row has its low nibbles first,
   * the even column in the low half of a byte; then, of 6 bits, the two high bits of every code, four columns
   * in a byte, the first in the lowest bits. Exact.
   */
  packLevels(packed: Uint8Array, levels: Int8Array, packing: LevelPacking): void;

  /**
   * x, finite, as floats of few bits. codes u8: one a value, of E2M1 two in a byte, the even column in the high half;
   * groupScales u8: the biased exponent or the E4M3 code of each group; values: what codes stand for. Scales that
   * are searched have the least squared error of those tried (`asm/round_floats.ts`). Exact.
   */
  roundFloats(
    codes: Uint8Array,
    groupScales: Uint8Array,
    values: Float32Array,
    x: Float32Array,
    rounding: FloatRounding,
  ): void;

  /**
   * Rows of x `[rows, cols]`, cols a multiple of 4, on the integers from -7 to 7: shrinks the scale of each row to that of
   * its `shares`, from 1/8 to 1, of least squared error, of several the first (`asm/search_clip.ts`). In place. Exact.
   */
  searchClip(scales: Float32Array, x: Float32Array, shares: Float32Array, cols: number): void;

  /** out = f32(code) * scale, one f32 multiplication. Exact. */
  dequantize(out: Float32Array, codes: Int8Array, scales: Float32Array, grid: Grid): void;

  /**
   * Shrinks each scale to the candidate of least squared error (see `asm/search_scale.ts` for the
   * candidates); never to one whose error, with the codes `quantize` gives, exceeds that of the scale
   * on entry. A scale stays where its group is all zero or has a NaN or infinity. In place. For groups up
   * to about 2^17 values; larger ones: `quant/scale_search.ts`. Exact.
   */
  searchScale(scales: Float32Array, x: Float32Array, grid: Grid): void;

  /**
   * x = x · R for every run of `groupSize` elements, R the normalised regular Hadamard matrix of that
   * size (a power of 4); symmetric and its own inverse. `x.length` is a multiple of `groupSize`. Exact.
   */
  rotate(x: Float32Array, groupSize: number): void;

  /**
   * counts[min(floor(|x| * binsPerUnit), counts.length - 1)] += 1 for every element; NaN counts in bin 0.
   * Exact.
   */
  histogram(counts: Uint32Array, x: Float32Array, binsPerUnit: number): void;

  /**
   * out[i] = binary16(x[i]), ties to even. Returns the flat index of the first finite value that
   * becomes infinite, or -1. Exact.
   */
  castF16(out: Uint16Array, x: Float32Array): number;

  /**
   * Adds the error of `xhat` against `x` (of equal length) to `stats` (see STATS). Close: 1e-6 of the sums
   * of squares, which run in f32 lanes over short runs, then in f64; maximum and count are exact.
   */
  errorStats(stats: Float64Array, x: Float32Array, xhat: Float32Array): void;
}

/**
 * {@link Kernels} and what only CPUs have: sums, and several of them in one pass over the values. Codes, scales, errors,
 * their maximum and count are those of the single kernels, bit for bit; the sums of `stats` are close, as those
 * of `errorStats` are.
 */
export interface CpuKernels extends Kernels {
  /** `quantize`, and `errorStats` of what it leaves; x becomes the errors, x - code * scale. */
  quantizeErrors(
    codes: Int8Array,
    x: Float32Array,
    stats: Float64Array,
    scales: Float32Array,
    grid: Grid,
  ): void;

  /** `errorStats` of given codes; x becomes the errors, x - code * scale. */
  codeErrors(
    x: Float32Array,
    stats: Float64Array,
    codes: Int8Array,
    scales: Float32Array,
    grid: Grid,
  ): void;

  /** sums[k] += the sum of column k of x `[rows, sums.length]`, in f64, from the first row to the last. Exact. */
  addColumns(sums: Float64Array, x: Float32Array): void;

  /** The same with squares. Exact. */
  addSquares(squares: Float64Array, x: Float32Array): void;

  /** out[r] = the sum of a * b over row r of `[out.length, cols]`, in f64, from left to right. Exact. */
  multiplyRows(out: Float64Array, a: Float32Array, b: Float32Array): void;

  /** out[r] = the sum of weights[k] * (a - b) over row r, in f64, from left to right. Exact. */
  weighDifferences(
    out: Float64Array,
    weights: Float64Array,
    a: Float32Array,
    b: Float32Array,
  ): void;

  /**
   * The sum of (a - b + bias)² over rows of `bias.length` columns, in f64, one after the other; b and bias are zero
   * if null. Exact.
   */
  squaredError(a: Float32Array, b: Float32Array | null, bias: Float32Array | null): number;

  /** out = a - b in f32; out may be one of them. Exact. */
  subtract(out: Float32Array, a: Float32Array, b: Float32Array): void;

  /** Whether two arrays hold the same bytes. */
  haveSameBytes(a: Uint8Array, b: Uint8Array): boolean;

  /** The larger of `least`, not negative, and max |x| after `rotate`, NaN ignored; x is left undefined. */
  rotatedAbsmax(x: Float32Array, groupSize: number, least: number): number;

  /**
   * Rows of BF16 values, `source`: x is what `decode` and `rotate` make of them, `largest` the `absmax` of each row.
   *
   * @param add whether the values are first increased by what x holds. Default: false.
   */
  rotateBf16Rows(
    x: Float32Array,
    largest: Float32Array,
    source: Uint8Array,
    groupSize: number,
    add?: boolean,
  ): void;

  /**
   * Rows of BF16 values, `source`, under one scale each: `decode`, `absmax`, `scaleFromAbsmax`, `quantize` and
   * `errorStats`.
   */
  quantizeBf16Rows(
    codes: Int8Array,
    scales: Float32Array,
    stats: Float64Array,
    source: Uint8Array,
  ): void;
}
