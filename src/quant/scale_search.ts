/**
 * The scale of least squared error for one scale over a whole tensor, from a histogram of magnitudes.
 *
 * Groups of some thousand values use the kernel `searchScale`, which tries candidates on the values
 * themselves. A whole tensor would have to be read again for each candidate; its histogram is taken in
 * one pass, any number of chunks and workers adding to it. With that many values the error is a smooth
 * function of the scale, which bins describe well, and the best scale is often far below absmax / 127:
 * a handful of outliers in millions of values are worth clipping hard.
 */

import { SCALE_MIN } from "./scheme.ts";

/** Bins to ask for. Steps of the largest scale span 258 of them, of the smallest candidate 4. */
export const HISTOGRAM_BINS = 32768;

/** Smallest factor on the scale that is tried: below, a step would be too few bins wide. */
const FACTOR_MIN = 1 / 64;
/** Ratio of neighbouring candidates of the first pass; the second divides the best interval further. */
const COARSE_RATIO = 0.94;
const FINE_STEPS = 8;
/** Minimum gain of a smaller scale, relative to the error: more than the bins can be wrong by. */
const GAIN_MIN = 1 / 1024;

/**
 * Returns the `binsPerUnit` that makes `bins` bins span magnitudes up to `absmax`, for the kernel
 * `histogram`.
 */
export function histogramBinsPerUnit(absmax: number, bins: number = HISTOGRAM_BINS): number {
  return absmax > 0 ? bins / absmax : 0;
}

/**
 * Returns the scale (f32) of least expected squared error: `absmax / 127`, or less if clipping pays.
 *
 * @param counts how many magnitudes lie in each of `counts.length` equal bins from 0 to `absmax`, as the
 * kernel `histogram` counts them with {@link histogramBinsPerUnit}; sums of several histograms too.
 * @param absmax largest magnitude, finite.
 * @throws RangeError if `absmax` is negative, NaN or infinite, or there are fewer than 8192 bins,
 * too few for the smallest candidate.
 */
export function searchScaleFromHistogram(counts: ArrayLike<number>, absmax: number): number {
  const bins = counts.length;
  if (!(absmax >= 0 && absmax < Infinity)) {
    throw new RangeError(`Cannot search scale: absmax is ${absmax}`);
  }
  if (bins < 8192) throw new RangeError(`Cannot search scale: ${bins} bins, needs 8192 or more`);
  const largest = Math.max(Math.fround(absmax / 127), Math.fround(SCALE_MIN));
  if (largest <= Math.fround(SCALE_MIN)) return largest; // next to nothing: no smaller scale is allowed

  const filled = filledBins(counts);
  const stepInBins = bins / 127;
  const start = errorOf(filled, stepInBins);
  let best = 1, least = start;
  const consider = (factor: number): void => {
    const error = errorOf(filled, stepInBins * factor);
    if (error < least) {
      least = error;
      best = factor;
    }
  };
  for (let factor = COARSE_RATIO; factor >= FACTOR_MIN; factor *= COARSE_RATIO) consider(factor);
  const center = best, width = center * (1 - COARSE_RATIO);
  for (let k = 1; k < FINE_STEPS; k++) {
    consider(Math.max(FACTOR_MIN, center - width * k / FINE_STEPS));
    consider(Math.min(1, center + width * k / FINE_STEPS));
  }
  if (!(least < start * (1 - GAIN_MIN))) return largest;
  return Math.max(Math.fround(largest * best), Math.fround(SCALE_MIN));
}

interface FilledBins {
  /** Middle of each bin that is not empty, in bins. */
  readonly middles: Float64Array;
  /** How many values it holds. */
  readonly counts: Float64Array;
}

function filledBins(counts: ArrayLike<number>): FilledBins {
  const middles: number[] = [], filled: number[] = [];
  for (let bin = 0; bin < counts.length; bin++) {
    if (counts[bin]! === 0) continue;
    middles.push(bin + 0.5);
    filled.push(counts[bin]!);
  }
  return { middles: Float64Array.from(middles), counts: Float64Array.from(filled) };
}

/**
 * The squared error of a scale of `step` bins, each value taken to be in the middle of its bin. (What
 * the spread within a bin adds is the same for all scales, and left out.)
 */
function errorOf({ middles, counts }: FilledBins, step: number): number {
  let error = 0;
  for (let k = 0; k < middles.length; k++) {
    const value = middles[k]!;
    // Ties do not matter here: both neighbours are equally far away.
    const code = Math.min(127, Math.floor(value / step + 0.5));
    const rest = value - code * step;
    error += counts[k]! * rest * rest;
  }
  return error;
}
