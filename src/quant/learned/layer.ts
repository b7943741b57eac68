/** The state that all parts of learned rounding share: codes, their errors, and the loss of them. */

import { type Grid, groupCount } from "../../backend/backend.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";

/** A layer, or some rows of one, whose codes are being moved. Errors are in units of the mean scale. */
export interface Layer {
  readonly grid: Grid;
  /** i8 `[rows, cols]`; each on one of the two grid points around its weight. */
  readonly codes: Int8Array;
  /** f32 `[rows, cols]`: code * scale - weight. */
  readonly errors: MatrixF32;
  /** f32, one per group, in the same unit. */
  readonly scales: Float32Array;
  /** i32 `[cols]`: the group that each column is in. */
  readonly columnGroups: Int32Array;
}

/** Effect of moving some codes. */
export interface Moves {
  readonly count: number;
  /** Change of the squared error of the weights. */
  readonly cost: number;
}

/** A loss that is a quadratic form of the errors of a layer. */
export interface Objective {
  /** Weight of the squared error of the weights, at the documented rate, beside the loss. */
  readonly unit: number;
  /** The loss of the codes as they are, squared. */
  loss(): number;
  /** Works the loss out anew from the errors, and returns it squared. */
  measure(): number;
  /** Moves codes of some columns to the other side of their weights if loss + penalty * cost falls. */
  descend(first: number, cols: number, penalty: number): Moves;
}

/** A loss that also has a gradient, and takes single moves. */
export interface GradientObjective extends Objective {
  /** First moments of the gradient: moment = decay * moment + (1 - decay) * gradient. */
  accumulate(decay: number): void;
  /** Sums of squares of the gradient: per row into `rows`, per column into `cols`. */
  energies(rows: Float64Array, cols: Float64Array): void;
  /** Rows of the first moment, f32 `[count, cols]`. */
  moments(out: MatrixF32, first: number): void;
  /** Takes an error that grew by `change`. The loss takes it in with {@link commit}. */
  moved(row: number, col: number, change: number): void;
  commit(): void;
}

/** Returns which group each column is in. */
export function fillColumnGroups(out: Int32Array, { groupCols }: Grid): Int32Array {
  for (let j = 0; j < out.length; j++) out[j] = Math.floor(j / groupCols);
  return out;
}

/** Returns the number by which a layer is multiplied so that its mean scale is about 1: a power of two. */
export function unitOf(scales: Float32Array): number {
  let mean = 0;
  for (let g = 0; g < scales.length; g++) mean += scales[g]! / scales.length;
  let unit = 1;
  if (!(mean > 0 && mean < Infinity)) return unit;
  while (mean * unit < 0.5) unit *= 2;
  while (mean * unit >= 1) unit /= 2;
  return unit;
}

/**
 * Replaces weights by the errors of their codes, all times `unit`, and scales by scales times `unit`.
 * Exact but for the subtraction.
 */
export function toErrors(
  weights: Float32Array,
  codes: Int8Array,
  scales: Float32Array,
  { grid, unit }: { grid: Grid; unit: number },
): MatrixF32 {
  const { rows, cols, groupRows, groupCols } = grid, across = cols / groupCols;
  for (let g = 0; g < groupCount(grid); g++) scales[g] = scales[g]! * unit;
  for (let r = 0; r < rows; r++) {
    const band = Math.floor(r / groupRows) * across;
    for (let group = 0; group < across; group++) {
      const scale = scales[band + group]!, from = r * cols + group * groupCols;
      for (let at = from; at < from + groupCols; at++) {
        weights[at] = codes[at]! * scale - weights[at]! * unit;
      }
    }
  }
  return matrix(weights, rows, cols);
}

/** Sum of squares, in f64. */
export function squaredNorm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/** Memory of a loss besides what it keeps, counted. */
export interface LossPlan {
  /** Counts what a step takes, or a measurement. */
  step(): void;
  /** Counts what first moments of so many rows take. */
  moments(rows: number): void;
}
