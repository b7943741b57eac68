/**
 * The INT8 operations of the runtime for any arrays: on WASM kernels, in memory of their own that is
 * there for one call. `quant/int8_ops.ts` says what they compute, bit for bit.
 */

import { type Grid, groupCount } from "../backend/backend.ts";
import {
  type CodeSpace,
  type Int8Context,
  int8Linear,
  type Int8Rows,
  type Int8Weight,
  originalSize,
  quantizeTo,
  rowGrid,
  scaledProduct,
} from "../quant/int8_ops.ts";
import { withOwnMemory } from "./own_memory.ts";

export type { CodeSpace, Grid, Int8Rows, Int8Weight };

/** Runs `body` with kernels, and memory for `bytes` of arrays. */
const withInt8: <T>(bytes: number, body: (context: Int8Context) => T) => T = withOwnMemory;

function requireLength(what: string, have: number, need: number): void {
  if (have !== need) {
    throw new RangeError(`Cannot compute: ${what} has ${have} elements, needs ${need}`);
  }
}

function requireGrid(grid: Grid): void {
  const { rows, cols, groupRows, groupCols } = grid;
  const isWhole = (count: number, unit: number) =>
    Number.isInteger(count) && Number.isInteger(unit) && unit > 0 && count % unit === 0;
  if (!isWhole(rows, groupRows) || !isWhole(cols, groupCols)) {
    throw new RangeError(
      `Cannot compute: groups of ${groupRows} x ${groupCols} do not tile ${rows} x ${cols}`,
    );
  }
}

function placed<A extends Float32Array | Int8Array>(context: Int8Context, values: A): A {
  const { memory } = context;
  const own = values instanceof Float32Array ? memory.f32(values.length) : memory.i8(values.length);
  own.set(values);
  return own as A;
}

/**
 * Returns activations quantized as the runtime does: per row, symmetric, scale max(absmax / 127, 1e-30),
 * ties to even.
 *
 * @param x f32 `[rows, cols]`, row-major.
 * @throws RangeError if `x` has no whole rows.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const { codes, scales } = actQuant(Float32Array.of(1, -127, 0, 2), { cols: 2 });
 * assert.deepEqual([...codes], [1, -127, 0, 127]);
 * assert.equal(actDequant({ codes, scales })[1], -127);
 * ```
 */
export function actQuant(x: Float32Array, { cols }: { readonly cols: number }): Int8Rows {
  return weightQuant(x, rowGrid(rowsOf(x, cols), cols));
}

function rowsOf(x: ArrayLike<number>, cols: number): number {
  if (!(Number.isInteger(cols) && cols > 0) || x.length % cols !== 0) {
    throw new RangeError(`Cannot compute: ${x.length} values are no rows of ${cols}`);
  }
  return x.length / cols;
}

/** Returns what quantized activations stand for, f32 `[rows, cols]`: code * scale. */
export function actDequant({ codes, scales }: Int8Rows): Float32Array {
  if (scales.length === 0) return new Float32Array(0);
  return weightDequant({
    codes,
    scales,
    grid: rowGrid(scales.length, codes.length / scales.length),
  });
}

/**
 * Returns the codes and scales of a weight, rounded to nearest on a grid of scale groups.
 *
 * @param w f32 `[grid.rows, grid.cols]`, finite.
 * @param grid rows: `groupRows` 1, `groupCols` all columns; one scale: all of both; tiles; groups of a row.
 * @param options `searchScale` shrinks scales to those of least squared error.
 * @throws RangeError if sizes do not fit together.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const grid = { rows: 2, cols: 2, groupRows: 1, groupCols: 2 };
 * const { codes, scales } = weightQuant(Float32Array.of(0.5, -1, 2, 0), grid);
 * assert.deepEqual([...codes], [64, -127, 127, 0]);
 * assert.equal(weightDequant({ codes, scales, grid })[2], 2);
 * ```
 */
export function weightQuant(
  w: Float32Array,
  grid: Grid,
  { searchScale = false }: { readonly searchScale?: boolean } = {},
): { codes: Int8Array; scales: Float32Array } {
  requireGrid(grid);
  requireLength("the weight", w.length, grid.rows * grid.cols);
  const groups = groupCount(grid);
  return withInt8(5 * w.length + 4 * groups + 1024, (context) => {
    const own = placed(context, w);
    const out = { codes: context.memory.i8(w.length), scales: context.memory.f32(groups) };
    quantizeTo(context, out, own, grid);
    if (searchScale) {
      context.kernels.searchScale(out.scales, own, grid);
      context.kernels.quantize(out.codes, own, out.scales, grid);
    }
    return { codes: out.codes.slice(), scales: out.scales.slice() };
  });
}

/** Returns code * scale, f32 `[grid.rows, grid.cols]`, in the space of the codes. */
export function weightDequant(
  { codes, scales, grid }: Pick<Int8Weight, "codes" | "scales" | "grid">,
): Float32Array {
  requireGrid(grid);
  requireLength("the codes", codes.length, grid.rows * grid.cols);
  requireLength("the scales", scales.length, groupCount(grid));
  return withInt8(5 * codes.length + 4 * scales.length + 1024, (context) => {
    const out = context.memory.f32(codes.length);
    const ownCodes = placed(context, codes), ownScales = placed(context, scales);
    context.kernels.dequantize(out, ownCodes, ownScales, grid);
    return out.slice();
  });
}

/**
 * Returns the rows of `x` (f32 `[rows, cols]`) in groups of `groupSize` times the normalised regular
 * Hadamard matrix, which is its own inverse.
 *
 * @throws RangeError if the group is no power of 4 or does not divide the columns.
 */
export function rotateRows(
  x: Float32Array,
  { cols, groupSize }: { readonly cols: number; readonly groupSize: number },
): Float32Array {
  rowsOf(x, cols);
  if (cols % groupSize !== 0) {
    throw new RangeError(
      `Cannot compute: the rotation group ${groupSize} does not divide ${cols} columns`,
    );
  }
  return withInt8(4 * x.length + 1024, (context) => {
    const own = placed(context, x);
    context.kernels.rotate(own, groupSize);
    return own.slice();
  });
}

/**
 * Returns a · bᵀ, i32 `[m, n]`, exact.
 *
 * @param a i8 `[m, k]`. @param b i8 `[n, k]`. @param sizes `k`, at most 131071.
 * @throws RangeError if sizes do not fit together, or sums could overflow.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const product = int8Gemm(Int8Array.of(1, 2), Int8Array.of(3, 4, 5, 6), { k: 2 });
 * assert.deepEqual([...product], [11, 17]);
 * ```
 */
export function int8Gemm(a: Int8Array, b: Int8Array, { k }: { readonly k: number }): Int32Array {
  const m = rowsOf(a, k), n = rowsOf(b, k);
  return withInt8(a.length + b.length + 4 * m * n + 1024, (context) => {
    const out = context.memory.i32(m * n);
    context.linalg.gemmI8(out, placed(context, a), placed(context, b), m, n, k);
    return out.slice();
  });
}

/** Bytes of scratch that a product of `m` rows takes, weights and inputs included. */
function productBytes(m: number, { codes, scales, grid, space }: Int8Weight): number {
  const { rows, cols } = originalSize({ grid, space });
  return 2 * codes.length + 4 * scales.length + m * (8 * cols + 8 * grid.cols + 4) +
    m * (12 * grid.rows + 8 * rows) + 8 * (grid.rows + grid.cols) + 8192;
}

function placedWeight(context: Int8Context, weight: Int8Weight): Int8Weight {
  const { grid, space } = weight;
  requireGrid(grid);
  requireLength("the codes", weight.codes.length, grid.rows * grid.cols);
  requireLength("the scales", weight.scales.length, groupCount(grid));
  const codes = placed(context, weight.codes), scales = placed(context, weight.scales);
  return { codes, scales, grid, space };
}

/**
 * Returns bias + x · Wᵀ of quantized activations and a quantized weight in the same space, f32 `[m, n]`:
 * exact integer sums, times the activation scale, times the weight scale, in f32.
 *
 * @param bias f32 `[n]`, or null.
 * @param x from {@link actQuant}, of the weight's columns.
 * @throws RangeError if sizes do not fit together.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const grid = { rows: 1, cols: 2, groupRows: 1, groupCols: 2 };
 * const weight = { ...weightQuant(Float32Array.of(127, 1), grid), grid };
 * const y = int8Addmm(Float32Array.of(10), actQuant(Float32Array.of(127, 0), { cols: 2 }), weight);
 * assert.deepEqual([...y], [16139]);
 * ```
 */
export function int8Addmm(
  bias: Float32Array | null,
  x: Int8Rows,
  weight: Pick<Int8Weight, "codes" | "scales" | "grid">,
): Float32Array {
  const m = x.scales.length, { grid } = weight;
  requireLength("the activations", x.codes.length, m * grid.cols);
  if (bias !== null) requireLength("the bias", bias.length, grid.rows);
  const whole: Int8Weight = { ...weight, space: { kind: "original" } };
  return withInt8(productBytes(m, whole) + x.codes.length, (context) => {
    const out = context.memory.f32(m * grid.rows);
    const rows = { codes: placed(context, x.codes), scales: placed(context, x.scales) };
    scaledProduct(context, out, rows, placedWeight(context, whole), bias);
    return out.slice();
  });
}

/**
 * Returns x · Wᵀ (+ bias), f32 `[m, N]`, for a weight whose codes are rotated (`convrot`) or stored
 * transformed (signs and Sylvester Hadamard matrices, padded to powers of two): inputs are brought to the
 * space of the codes, quantized there per row, multiplied as integers, and outputs brought back.
 *
 * @param x f32 `[m, K]`, K columns of the weight in original space.
 * @throws RangeError if sizes do not fit together.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const grid = { rows: 1, cols: 4, groupRows: 1, groupCols: 4 };
 * // The rotated form of the weight (1, 0, 0, 0).
 * const weight = weightQuant(Float32Array.of(0.5, 0.5, 0.5, -0.5), grid);
 * const [y = 0] = quipInt8Matmul(Float32Array.of(1, 0, 0, 0), {
 *   ...weight,
 *   grid,
 *   space: { kind: "convrot", groupSize: 4 },
 * });
 * assert.equal(y.toFixed(3), "1.000");
 * ```
 */
export function quipInt8Matmul(
  x: Float32Array,
  weight: Int8Weight,
  bias: Float32Array | null = null,
): Float32Array {
  const { rows, cols } = originalSize(weight);
  const { grid, space } = weight;
  const m = rowsOf(x, cols);
  if (bias !== null) requireLength("the bias", bias.length, rows);
  if (space.kind === "convrot" && grid.cols % space.groupSize !== 0) {
    throw new RangeError(
      `Cannot compute: the rotation group ${space.groupSize} does not divide ${grid.cols} columns`,
    );
  }
  if (space.kind === "sylvester") {
    requireLength("signRow", space.signRow.length, grid.rows);
    requireLength("signCol", space.signCol.length, grid.cols);
    if (rows > grid.rows || cols > grid.cols) {
      throw new RangeError(
        `Cannot compute: a weight of ${rows} x ${cols} is not within codes of ${grid.rows} x ${grid.cols}`,
      );
    }
  }
  return withInt8(productBytes(m, weight), (context) => {
    const out = context.memory.f32(m * rows);
    int8Linear(context, out, placed(context, x), placedWeight(context, weight), bias);
    return out.slice();
  });
}
