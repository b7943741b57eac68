/** Error measures of stored weights against their source, from the sums that the kernels keep. */

import { STATS, STATS_LENGTH } from "../backend/backend.ts";

/** How far a stored weight is from its source. All fields survive JSON: no NaN, no infinity. */
export interface LayerErrors {
  /** ‖W − Ŵ‖ / ‖W‖; 0 where both are zero, `Number.MAX_VALUE` where it has no bound. */
  readonly relativeError: number;
  /** 10 log10(‖W‖² / ‖W − Ŵ‖²); null where there is no error. */
  readonly sqnrDb: number | null;
  /** Of W and Ŵ as vectors; 1 where there is no error. */
  readonly cosine: number;
  /** The largest |w − ŵ|. */
  readonly maxAbsError: number;
  /** ‖W − Ŵ‖² / elements. */
  readonly mse: number;
}

/** Stands for a ratio without bound: a NaN or infinite weight, or an error where the source is zero. */
const UNBOUNDED = Number.MAX_VALUE;

/** The SQNR of an unbounded error, in dB. */
const WORST_SQNR_DB = -6000;

/**
 * Returns the measures for one accumulator of `errorStats`.
 *
 * @param stats f64 `[STATS_LENGTH]`, see STATS.
 */
export function layerErrors(stats: Float64Array): LayerErrors {
  const error = stats[STATS.squaredError]!;
  const signal = stats[STATS.squaredSignal]!;
  const norm = Math.sqrt(signal) * Math.sqrt(stats[STATS.squaredDequantized]!);
  const count = stats[STATS.count]!;
  return {
    relativeError: error === 0 ? 0 : bounded(Math.sqrt(error / signal)),
    sqnrDb: error === 0 ? null : sqnrDb(signal / error),
    cosine: norm === 0 ? (error === 0 ? 1 : 0) : bounded(stats[STATS.dot]! / norm, 0),
    maxAbsError: bounded(stats[STATS.maxAbsError]!),
    mse: count === 0 ? 0 : bounded(error / count),
  };
}

/** Returns the sums over several layers: what {@link layerErrors} makes the errors of the whole of. */
export function sumStats(all: Iterable<Float64Array>): Float64Array {
  const sums = new Float64Array(STATS_LENGTH);
  for (const stats of all) {
    for (let i = 0; i < STATS_LENGTH; i++) {
      sums[i] = i === STATS.maxAbsError ? Math.max(sums[i]!, stats[i]!) : sums[i]! + stats[i]!;
    }
  }
  return sums;
}

/** Returns the layers by falling relative error. */
export function worstLayersFirst<T extends { readonly errors: LayerErrors }>(
  layers: readonly T[],
): T[] {
  return [...layers].sort((a, b) => b.errors.relativeError - a.errors.relativeError);
}

function bounded(value: number, otherwise = UNBOUNDED): number {
  return Number.isFinite(value) ? value : otherwise;
}

function sqnrDb(ratio: number): number {
  return Math.max(WORST_SQNR_DB, bounded(10 * Math.log10(ratio), WORST_SQNR_DB));
}
