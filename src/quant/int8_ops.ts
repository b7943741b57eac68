/**
 * The INT8 arithmetic of the runtime, on typed arrays: activations quantized per row when they arrive, exact
 * integer products, scales applied in f32. What comfy-kitchen's `int8_linear` computes for
 * `int8_tensorwise`, extended to all scale groups and to codes that are stored transformed.
 *
 * All are *exact*: the same bits on every backend, for every split of the rows. Arrays given to the CPU
 * backend must lie in its WebAssembly memory. `library/int8.ts` has the same for any arrays.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import type { Grid, Kernels } from "../backend/backend.ts";
import type { Allocator } from "../linalg/context.ts";
import type { LinalgKernels } from "../linalg/linalg_kernels.ts";
import { matrix } from "../linalg/matrix.ts";

/** Kernels and the memory that they work on. */
export interface Int8Context {
  readonly kernels: Pick<
    Kernels,
    "absmax" | "scaleFromAbsmax" | "quantize" | "dequantize" | "searchScale" | "rotate"
  >;
  readonly linalg: Pick<LinalgKernels, "gemmI8" | "hadamardRows" | "scaleSums">;
  readonly memory: Allocator;
}

/** Codes `[rows, cols]`, row-major, and one scale per row. */
export interface Int8Rows {
  /** Codes, row-major. */
  readonly codes: Int8Array;
  /** f32 `[rows]`. */
  readonly scales: Float32Array;
}

/** In which space the codes of a weight are: what its inputs, and its outputs, go through. */
export type CodeSpace =
  | { readonly kind: "original" }
  /** Columns rotated in groups by the regular Hadamard matrix. */
  | { readonly kind: "convrot"; readonly groupSize: number }
  /**
   * H_P · diag(signRow) · W · diag(signCol) · H_Q, see `incoherence.ts`: the codes are `[P, Q]`, the
   * weight the first `rows x cols` of it.
   */
  | {
    readonly kind: "sylvester";
    readonly rows: number;
    readonly cols: number;
    /** f32 `[P]` and `[Q]`, 1 or -1. */
    readonly signRow: Float32Array;
    readonly signCol: Float32Array;
  };

/** A weight as it is stored. */
export interface Int8Weight {
  /** i8 `[grid.rows, grid.cols]`. */
  readonly codes: Int8Array;
  /** f32, row-major over the groups of `grid`. */
  readonly scales: Float32Array;
  /** Which weights share a scale. */
  readonly grid: Grid;
  /** The space that the codes are in. */
  readonly space: CodeSpace;
}

/** Returns the grid of a matrix with one scale per row. */
export function rowGrid(rows: number, cols: number): Grid {
  return { rows, cols, groupRows: 1, groupCols: cols };
}

/** Fills `out` with the codes of `x` and its scales: max(absmax / 127, 1e-30) per group, ties to even. */
export function quantizeTo(
  context: Int8Context,
  out: { readonly codes: Int8Array; readonly scales: Float32Array },
  x: Float32Array,
  grid: Grid,
): void {
  const { kernels } = context;
  kernels.absmax(out.scales, x, grid);
  kernels.scaleFromAbsmax(out.scales, out.scales);
  kernels.quantize(out.codes, x, out.scales, grid);
}

/**
 * out = x · wᵀ (+ bias) of quantized rows and a quantized weight in the same space:
 *
 *     out[i, j] = bias[j] + sum over g of f32(sum over k in g of x[i, k] w[j, k]) * xs[i] * ws[j, g]
 *
 * in f32, over the column groups g from left to right; inner sums are exact integers.
 *
 * @param out f32 `[m, n]`. @param bias f32 `[n]` or null.
 */
export function scaledProduct(
  context: Int8Context,
  out: Float32Array,
  x: Int8Rows,
  weight: Pick<Int8Weight, "codes" | "scales" | "grid">,
  bias: Float32Array | null = null,
): void {
  const { grid, scales } = weight;
  const { rows: n, cols: k, groupRows, groupCols } = grid;
  const m = x.scales.length, across = k / groupCols;
  const { memory, linalg } = context;
  const mark = memory.mark();
  const { sums, colScales, parts } = roomForSums(memory, m, grid);
  const { left, right } = parts ?? { left: x.codes, right: weight.codes };
  for (let group = 0; group < across; group++) {
    if (parts !== null) {
      gatherColumns(left, x.codes, { rows: m, cols: k, first: group * groupCols, groupCols });
      gatherColumns(right, weight.codes, { rows: n, cols: k, first: group * groupCols, groupCols });
    }
    linalg.gemmI8(sums, left, right, m, n, groupCols);
    for (let j = 0; j < n; j++) colScales[j] = scales[Math.floor(j / groupRows) * across + group]!;
    linalg.scaleSums(out, sums, { rowScales: x.scales, colScales }, group > 0);
  }
  if (bias !== null) {
    for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) out[i * n + j]! += bias[j]!;
  }
  memory.release(mark);
}

function gatherColumns(
  out: Int8Array,
  from: Int8Array,
  { rows, cols, first, groupCols }: {
    rows: number;
    cols: number;
    first: number;
    groupCols: number;
  },
): void {
  for (let r = 0; r < rows; r++) {
    const at = r * cols + first;
    out.set(from.subarray(at, at + groupCols), r * groupCols);
  }
}

/** Rows and columns of a weight in original space. */
export function originalSize({ grid, space }: Pick<Int8Weight, "grid" | "space">): {
  rows: number;
  cols: number;
} {
  return space.kind === "sylvester" ? space : grid;
}

/**
 * Counts what {@link int8Linear} takes for `m` rows.
 *
 * @param isTransformed whether the codes are stored transformed.
 */
export function planInt8Linear(
  memory: CountedMemory,
  m: number,
  { grid, isTransformed }: { readonly grid: Grid; readonly isTransformed: boolean },
): void {
  memory.within(() => {
    roomForInputs(memory, m, grid);
    if (isTransformed) memory.f32(m * grid.rows);
    roomForSums(memory, m, grid);
  });
}

function roomForInputs(memory: Pick<Allocator, "f32" | "i8">, m: number, { cols }: Grid) {
  return {
    inputs: memory.f32(m * cols),
    quantized: { codes: memory.i8(m * cols), scales: memory.f32(m) },
  };
}

/** Sums of a product, scales of its columns, and, of several groups of columns, the columns of one. */
function roomForSums(memory: Pick<Allocator, "i32" | "f32" | "i8">, m: number, grid: Grid) {
  const { rows: n, cols, groupCols } = grid;
  const room = { sums: memory.i32(m * n), colScales: memory.f32(n) };
  if (groupCols === cols) return { ...room, parts: null };
  return { ...room, parts: { left: memory.i8(m * groupCols), right: memory.i8(n * groupCols) } };
}

/**
 * out = x · Wᵀ (+ bias) as the runtime computes it from what is stored: inputs go to the space of the
 * codes, are quantized there per row, multiplied as integers; outputs come back.
 *
 * @param out f32 `[m, rows]`. @param x f32 `[m, cols]`, not changed; rows and cols of original space.
 */
export function int8Linear(
  context: Int8Context,
  out: Float32Array,
  x: Float32Array,
  weight: Int8Weight,
  bias: Float32Array | null = null,
): void {
  const { grid, space } = weight;
  const { rows, cols } = originalSize(weight);
  const m = cols === 0 ? 0 : x.length / cols;
  const { memory, kernels, linalg } = context;
  const mark = memory.mark();
  const { inputs, quantized } = roomForInputs(memory, m, grid);
  if (space.kind === "sylvester") {
    inputs.fill(0);
    for (let i = 0; i < m; i++) {
      for (let k = 0; k < cols; k++) {
        inputs[i * grid.cols + k] = x[i * cols + k]! * space.signCol[k]!;
      }
    }
    linalg.hadamardRows(matrix(inputs, m, grid.cols));
  } else {
    inputs.set(x);
    if (space.kind === "convrot") kernels.rotate(inputs, space.groupSize);
  }
  quantizeTo(context, quantized, inputs, rowGrid(m, grid.cols));
  if (space.kind !== "sylvester") {
    scaledProduct(context, out, quantized, weight, bias);
  } else {
    const outputs = memory.f32(m * grid.rows);
    scaledProduct(context, outputs, quantized, weight);
    linalg.hadamardRows(matrix(outputs, m, grid.rows));
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < rows; j++) {
        const value = Math.fround(outputs[i * grid.rows + j]! * space.signRow[j]!);
        out[i * rows + j] = bias === null ? value : value + bias[j]!;
      }
    }
  }
  memory.release(mark);
}
