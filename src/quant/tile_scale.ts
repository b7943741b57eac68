/**
 * The scale of least weighted error for groups of several rows: tiles, or a whole tensor.
 *
 * With energies D[j] of the columns, a scale s costs
 *
 *     sum D[j] * s^2 / 12  +  sum D[j] * max(0, |w| - 127 s)^2
 *
 * over the weights of the group: steps that round evenly, and what is clipped. Sums over a histogram of the
 * large weights, so that a group is read twice, whatever the number of candidates.
 */

import type { Grid } from "../backend/backend.ts";
import { SCALE_MIN } from "./scheme.ts";

/** Candidates: each 2% below the one before, from absmax / 127. */
const RATIO = 0.98, FACTOR_MIN = 0.1;

/** Bins of the histogram, from 0 to absmax. */
const BINS = 1024;

/** The bins, and one for what equals absmax. */
export const TILE_BINS = BINS + 1;

/**
 * Sets the scale of every group of `grid`.
 *
 * @param scales f32, one per group; a group of zeros keeps its own.
 * @param weights f32 `[grid.rows, grid.cols]`, row-major, finite.
 * @param energies f64 `[grid.cols]`, 0 or more: what an error in each column weighs.
 */
export function searchTileScales(
  scales: Float32Array,
  weights: Float32Array,
  grid: Grid,
  energies: Float64Array,
): void {
  const { rows, cols, groupRows, groupCols } = grid;
  let group = 0;
  for (let top = 0; top < rows; top += groupRows) {
    for (let left = 0; left < cols; left += groupCols) {
      const tileRows = Array.from({ length: groupRows }, (_, r) => {
        const at = (top + r) * cols + left;
        return weights.subarray(at, at + groupCols);
      });
      const scale = searchTile(tileRows, energies.subarray(left, left + groupCols));
      if (scale !== null) scales[group] = Math.max(scale, Math.fround(SCALE_MIN));
      group++;
    }
  }
}

/** The best scale of one tile, given as its rows; null if it is all zero or next to it. */
function searchTile(rows: readonly Float32Array[], energies: Float64Array): number | null {
  const absmax = rows.reduce((largest, row) => Math.max(largest, absmaxOf(row)), 0);
  const bins = new Float64Array(TILE_BINS);
  for (const row of rows) addToBins(bins, row, energies, absmax);
  return scaleFromBins(
    bins,
    absmax,
    rows.length * energies.reduce((sum, energy) => sum + energy, 0),
  );
}

/**
 * Adds the energies of the large weights of one row to the bins of their magnitudes.
 *
 * @param bins f64 `[TILE_BINS]`.
 * @param row f32, part of a row of the group; `energies` f64 of its columns.
 * @param absmax the largest magnitude of the group.
 */
export function addToBins(
  bins: Float64Array,
  row: Float32Array,
  energies: Float64Array,
  absmax: number,
): void {
  const perUnit = BINS / absmax, from = absmax * FACTOR_MIN;
  for (let j = 0; j < row.length; j++) {
    const magnitude = Math.abs(row[j]!);
    if (magnitude < from) continue;
    const bin = Math.floor(magnitude * perUnit);
    bins[bin] = bins[bin]! + energies[j]!;
  }
}

/**
 * Returns the best scale of a group by its bins; null if it is all zero or next to it.
 *
 * @param energy the sum of the energies of all weights of the group, small ones too.
 */
export function scaleFromBins(bins: Float64Array, absmax: number, energy: number): number | null {
  const largest = Math.fround(absmax / 127);
  if (!(largest > SCALE_MIN)) return null;
  const steps = energy / 12, perUnit = BINS / absmax;
  let best = largest, least = Infinity;
  for (let factor = 1; factor > FACTOR_MIN; factor *= RATIO) {
    const s = Math.fround(largest * factor), reach = 127 * s * perUnit;
    let clipped = 0;
    for (let bin = Math.ceil(reach - 0.5); bin <= BINS; bin++) {
      const over = bin + 0.5 - reach; // every weight is taken to be in the middle of its bin
      if (over > 0) clipped += bins[bin]! * over * over;
    }
    const cost = steps * s * s + clipped / (perUnit * perUnit);
    if (cost < least) {
      least = cost;
      best = s;
    }
  }
  return best;
}

/** Returns the largest magnitude; NaN is ignored. */
export function absmaxOf(values: Float32Array): number {
  let largest = 0;
  for (let j = 0; j < values.length; j++) {
    const magnitude = Math.abs(values[j]!);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}
