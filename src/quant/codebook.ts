/**
 * A table of 16 levels of a weight's own: Lloyd and Max on a histogram of values relative to the scales of their groups,
 * each counting by the square of that scale, as its error does.
 *
 * All sums run in one order, so that the same values give the same table on every machine.
 */

import { type LevelScheme, withTable } from "./level_grid.ts";

/** Bins of the histogram, and the values that they cover: from -RANGE to RANGE. */
const BINS = 2048, RANGE = 1.28;

/** Rounds of Lloyd's, at most; they end when no level moves by more than {@link STILL}. */
const ROUNDS = 2000, STILL = 1e-7;

/** Weights and first moments of values, in bins. */
export interface ValueHistogram {
  /** Sum of weights, f64 `[BINS]`. */
  readonly weight: Float64Array;
  /** Sum of weight times value. */
  readonly moment: Float64Array;
}

/** Returns an empty histogram. */
export function emptyHistogram(): ValueHistogram {
  return { weight: new Float64Array(BINS), moment: new Float64Array(BINS) };
}

/** Adds a value. */
export function addValue({ weight, moment }: ValueHistogram, value: number, own: number): void {
  const bin = Math.max(0, Math.min(BINS - 1, Math.floor((value / RANGE + 1) * (BINS / 2))));
  weight[bin] = weight[bin]! + own;
  moment[bin] = moment[bin]! + own * value;
}

/**
 * Returns the levels that lose least, f32 and strictly ascending, beginning with those of `start`; `start` itself if
 * the histogram is empty.
 */
export function fitLevels(histogram: ValueHistogram, start: readonly number[]): number[] {
  const sums = { weight: sumsBefore(histogram.weight), moment: sumsBefore(histogram.moment) };
  let levels = [...start];
  for (let round = 0; round < ROUNDS; round++) {
    const next = centroids(sums, levels);
    const moved = Math.max(...next.map((level, i) => Math.abs(level - levels[i]!)));
    levels = next;
    if (moved <= STILL) break;
  }
  const rounded = levels.map(Math.fround);
  const isRight = rounded.every((level, i) =>
    Number.isFinite(level) && (i === 0 || level > rounded[i - 1]!)
  );
  return isRight ? rounded : [...start];
}

/** What rounding a sample to levels leaves, and its values relative to the scales of their groups. */
export interface RoundedSample {
  /** The sum of squared errors. */
  readonly error: number;
  readonly histogram: ValueHistogram;
}

/** How often scales are chosen anew for a table that was fitted, and the table for them. */
const FITTINGS = 4;

/**
 * Returns the table with the least error among that of `scheme` and those that are fitted to a sample: scales of groups
 * follow from a table, and the next table from them.
 *
 * @param round rounds the sample to nearest with the levels of a scheme.
 */
export function fitCodebook(
  scheme: LevelScheme & { readonly kind: "scaled" },
  round: (scheme: LevelScheme) => RoundedSample,
): readonly number[] {
  let table = scheme.table, best = table, least = Infinity;
  for (let k = 0; k <= FITTINGS; k++) {
    const { error, histogram } = round(withTable(scheme, table));
    if (error < least) [best, least] = [table, error];
    table = fitLevels(histogram, table);
  }
  return best;
}

/** Sums of `values` up to the beginning of each bin, and up to the end of the last one. */
function sumsBefore(values: Float64Array): Float64Array {
  const sums = new Float64Array(values.length + 1);
  for (let bin = 0; bin < values.length; bin++) sums[bin + 1] = sums[bin]! + values[bin]!;
  return sums;
}

/** The sum up to a place within a bin, over which its values are spread evenly. */
function sumTo(sums: Float64Array, place: number): number {
  const bin = Math.min(BINS - 1, Math.floor(place));
  return sums[bin]! + (place - bin) * (sums[bin + 1]! - sums[bin]!);
}

/** The mean of what is nearest to each level; a level that nothing is nearest to stays. */
function centroids(
  { weight, moment }: { weight: Float64Array; moment: Float64Array },
  levels: readonly number[],
): number[] {
  let weightBefore = 0, momentBefore = 0;
  return levels.map((level, i) => {
    const next = levels[i + 1];
    const middle = next === undefined ? RANGE : (level + next) / 2;
    const end = Math.max(0, Math.min(BINS, (middle / RANGE + 1) * (BINS / 2)));
    const weightTo = sumTo(weight, end), momentTo = sumTo(moment, end);
    const sum = weightTo - weightBefore, first = momentTo - momentBefore;
    [weightBefore, momentBefore] = [weightTo, momentTo];
    return sum > 0 ? first / sum : level;
  });
}
