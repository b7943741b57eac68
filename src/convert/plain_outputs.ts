/**
 * Errors of the outputs that plain rows, and rotated rows with searched scales, would have given for some rows of a
 * layer, with some of its inputs. Everything is computed by the kernels, on memory of their own.
 */

import type { CpuKernels, Grid } from "../backend/backend.ts";
import { elementBytes } from "../run/tasks.ts";
import type { OwnCheckKernels } from "../run/workers/check_kernels.ts";
import type { Scratch } from "../run/scratch.ts";
import type { FloatDType } from "../core/dtype.ts";
import { matrix, transpose } from "../linalg/matrix.ts";

/** Rows of weights and of inputs, as their files have them. */
export interface RawRows {
  readonly bytes: Uint8Array;
  readonly dtype: FloatDType;
  readonly rows: number;
}

/** Rows of weights of a layer and inputs of it, all with `cols` values. */
export interface OutputSample {
  readonly weights: RawRows;
  readonly inputs: RawRows;
  readonly cols: number;
}

/** A way to round weights to nearest. */
export interface Rounding {
  /** Values that are rotated together, of weights and inputs; null: none are. */
  readonly group: number | null;
  /** Whether scales of weights are searched; else they are `absmax / 127`. */
  readonly isSearched: boolean;
}

/** Sums over the outputs of a sample. */
export interface OutputSums {
  /** Squared differences of the outputs, inputs rounded to int8. */
  readonly error: number;
  /** Squares of the weights. */
  readonly squares: number;
}

/** Returns the sums for `sample` if its weights are rounded so. Takes the memory of `own`. */
export function outputSums(
  own: OwnCheckKernels,
  { weights, inputs, cols }: OutputSample,
  { group, isSearched }: Rounding,
): OutputSums {
  const most = Math.max(weights.rows, inputs.rows), rows = weights.rows + inputs.rows;
  const rawBytes = Math.max(weights.bytes.length, inputs.bytes.length);
  const memory = own.memory(
    rawBytes + 8 * rows * cols + most * (cols + 4) + 8 * weights.rows * inputs.rows + 1024,
  );
  const { kernels, linalg } = own;
  const raw = memory.u8(rawBytes), codes = memory.i8(most * cols), scales = memory.f32(most);
  const pairs = [weights, inputs].map((all) => {
    const x = decoded(kernels, all, { raw, cols, memory });
    if (group !== null) kernels.rotate(x, group);
    const grid = { rows: all.rows, cols, groupRows: 1, groupCols: cols };
    const rounded = memory.f32(x.length), isWeights = all === weights;
    round(kernels, { rounded, x }, { codes, scales, grid, isSearched: isSearched && isWeights });
    return { exact: matrix(x, all.rows, cols), rounded: matrix(rounded, all.rows, cols) };
  });
  const [w, x] = pairs as [typeof pairs[0], typeof pairs[0]];
  const size = inputs.rows * weights.rows;
  const differences = memory.f64(size), out = matrix(differences, inputs.rows, weights.rows);
  linalg.gemmF32ToF64(out, x.exact, transpose(w.exact), "set");
  linalg.gemmF32ToF64(out, x.rounded, transpose(w.rounded), "subtract");
  return { error: sumOfSquares(differences), squares: sumOfSquares(w.exact.data) };
}

/** Returns the values of rows, in memory of the kernels. */
function decoded(
  kernels: CpuKernels,
  { bytes, dtype, rows }: RawRows,
  { raw, cols, memory }: {
    readonly raw: Uint8Array;
    readonly cols: number;
    readonly memory: Scratch;
  },
): Float32Array {
  const x = memory.f32(rows * cols), source = raw.subarray(0, rows * cols * elementBytes(dtype));
  source.set(bytes);
  kernels.decode(x, source, dtype);
  return x;
}

/** Rounds rows to nearest. */
function round(
  kernels: CpuKernels,
  { rounded, x }: { readonly rounded: Float32Array; readonly x: Float32Array },
  { codes, scales, grid, isSearched }: {
    readonly codes: Int8Array;
    readonly scales: Float32Array;
    readonly grid: Grid;
    readonly isSearched: boolean;
  },
): void {
  const own = scales.subarray(0, grid.rows), bytes = codes.subarray(0, x.length);
  kernels.absmax(own, x, grid);
  kernels.scaleFromAbsmax(own, own);
  if (isSearched) kernels.searchScale(own, x, grid);
  kernels.quantize(bytes, x, own, grid);
  kernels.dequantize(rounded, bytes, own, grid);
}

function sumOfSquares(values: Float32Array | Float64Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}
