/**
 * The order of columns for grids on which large weights are clipped (tiles, whole tensors).
 *
 * Error compensation makes up best for the columns rounded first. By energy alone these are the outlier
 * channels. But on a grid whose steps suit the many, a few clipped weights may cost as much as all
 * rounding; their columns should come early too. So a column is as important as the error that rounding
 * and clipping will bring about in it: energy * sum over rows of (s^2 / 12 + max(0, |w| - 127 s)^2).
 */

import type { Grid } from "../backend/backend.ts";

/** Adds to f64 `[grid.cols]` the squared error that rounding and clipping are expected to leave in each column. */
export function addColumnErrors(
  errors: Float64Array,
  weights: Float32Array,
  { rows, cols, groupRows, groupCols }: Grid,
  scales: Float32Array,
): void {
  const across = cols / groupCols;
  for (let r = 0; r < rows; r++) {
    const scaleRow = Math.floor(r / groupRows) * across;
    for (let c = 0; c < cols; c++) {
      const s = scales[scaleRow + Math.floor(c / groupCols)]!;
      const over = Math.max(0, Math.abs(weights[r * cols + c]!) - 127 * s);
      errors[c] = errors[c]! + s * s / 12 + over * over;
    }
  }
}
