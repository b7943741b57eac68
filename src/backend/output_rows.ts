/** Rows whose errors of outputs a GPU measures. */

import type { Grid } from "./backend.ts";

/** Some rows of a layer and some of its inputs. Views may lie in shared memory. */
export interface OutputRows {
  /** f32 `[n, k]`. */
  readonly weights: Float32Array;
  /** Weights less what is stored of them, f32 `[n, k]`. */
  readonly difference: Float32Array;
  /** f32 `[m, k]`. */
  readonly inputs: Float32Array;
  /** Columns, k. */
  readonly cols: number;
  /** The stored weight, if it is int8. */
  readonly stored: {
    /** i8 `[n, k]`. */
    readonly codes: Int8Array;
    readonly scales: Float32Array;
    /** `[n, k]`. */
    readonly grid: Grid;
    /** Group in which inputs are rotated; null: they are not. */
    readonly convrotGroupSize: number | null;
  } | null;
  /**
   * Out, f64 `[runs, 3]`, for runs of ERROR_RUN_VALUES outputs `[m, n]`: squares of outputs, of their errors, of
   * those with int8 inputs.
   */
  readonly sums: Float64Array;
}
