/**
 * The scales that learned rounding starts from: between those of least squared error and absmax / 127.
 *
 * Scales of least squared error clip. What is clipped cannot be rounded to the other side, and the largest
 * weights are what the leading singular directions are made of, so clipping costs far more in the projected
 * loss than in the squared error. Half of the limit on the error is spent on wider scales: on a 128 x 128
 * grid that lowers the loss which is reached by a quarter.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Grid, groupCount, type Kernels, STATS, STATS_LENGTH } from "../../backend/backend.ts";
import { HISTOGRAM_BINS, histogramBinsPerUnit, searchScaleFromHistogram } from "../scale_search.ts";
import type { LearnedOptions } from "./options.ts";

/** The share of the limit, in dB, that wider scales may take. */
const SHARE = 0.5;

/** Halvings of the range of mixtures. */
const HALVINGS = 5;

/** Elements that are tried at a time. */
const PART_ELEMENTS = 1 << 16;

/** Memory of the kernels. */
export interface ScaleMemory {
  f32(count: number): Float32Array;
  f64(count: number): Float64Array;
  i8(count: number): Int8Array;
  u32(count: number): Uint32Array;
  mark(): number;
  release(mark: number): void;
}

/** A layer with its scales. */
export interface ScaleChoice {
  /** f32 `[rows, cols]`. */
  readonly weights: Float32Array;
  readonly grid: Grid;
  /** f32, one per group. In: of least squared error. Out: the chosen ones. */
  readonly scales: Float32Array;
  /** f32, one per group: absmax / 127. */
  readonly widest: Float32Array;
  /** How far the SQNR may fall, in all, in dB. */
  readonly limitDb: number;
}

/** Rows of the parts that a layer is tried in: whole groups, or any if there is one group. */
function partRows({ rows, cols, groupRows }: Grid): number {
  const unit = groupRows === rows ? 1 : groupRows;
  return Math.min(rows, Math.max(1, Math.floor(PART_ELEMENTS / (cols * unit))) * unit);
}

/** Weights of a group from which its scale is found by a histogram, as that of a whole layer always is. */
const HISTOGRAM_FROM = 1 << 20;

/**
 * Sets the scales of a layer from its weights. Returns the squared error of rounding to nearest with those
 * of least squared error; null if they are not searched, or nothing is going to be learned.
 *
 * @param layer `scales` as in {@link ScaleChoice}, out; `spare` as long, contents used up.
 */
export function findScales(
  kernels: Kernels,
  memory: ScaleMemory,
  layer: Pick<ScaleChoice, "weights" | "grid" | "scales"> & { readonly spare: Float32Array },
  { search, options }: { search: boolean; options: LearnedOptions },
): number | null {
  const { weights, grid, scales, spare } = layer, size = grid.groupRows * grid.groupCols;
  kernels.absmax(spare, weights, grid);
  kernels.scaleFromAbsmax(scales, spare);
  if (!search) return null;
  if (isByHistogram(grid)) {
    const mark = memory.mark(), counts = memory.u32(HISTOGRAM_BINS);
    for (let g = 0; g < scales.length; g++) {
      const group = weights.subarray(g * size, (g + 1) * size), absmax = spare[g]!;
      counts.fill(0);
      kernels.histogram(counts, group, histogramBinsPerUnit(absmax));
      scales[g] = searchScaleFromHistogram(counts, absmax);
    }
    memory.release(mark);
  } else kernels.searchScale(scales, weights, grid);
  if (options.iterations === 0) return null;
  kernels.scaleFromAbsmax(spare, spare);
  const choice = { weights, grid, scales, widest: spare, limitDb: options.errorLimitDb };
  return chooseScales(kernels, memory, choice);
}

/** Counts what {@link findScales} takes, if it searches. */
export function planFindScales(memory: CountedMemory, grid: Grid): void {
  memory.within(() => memory.u32(isByHistogram(grid) ? HISTOGRAM_BINS : 0));
  memory.within(() => {
    memory.f32(groupCount(grid));
    roomForParts(memory, grid);
  });
}

function roomForParts(memory: Pick<ScaleMemory, "f32" | "f64" | "i8">, grid: Grid) {
  const elements = partRows(grid) * grid.cols;
  return {
    codes: memory.i8(elements),
    dequantized: memory.f32(elements),
    stats: memory.f64(STATS_LENGTH),
  };
}

/** Whether scales are found by histograms: that of a whole layer, and those of large groups. */
function isByHistogram({ rows, cols, groupRows, groupCols }: Grid): boolean {
  const size = groupRows * groupCols;
  return groupRows > 1 && size === rows * cols || size > HISTOGRAM_FROM;
}

/** Sets the scales. Returns the squared error of rounding to nearest with those of least squared error. */
export function chooseScales(kernels: Kernels, memory: ScaleMemory, choice: ScaleChoice): number {
  const { grid, scales, widest } = choice;
  const mark = memory.mark(), mixed = memory.f32(groupCount(grid));
  const mix = (share: number): void => {
    for (let g = 0; g < mixed.length; g++) {
      mixed[g] = scales[g]! + share * (widest[g]! - scales[g]!);
    }
  };
  mix(0);
  const least = roundingError(kernels, memory, choice, mixed);
  const most = least * Math.fround(10 ** (choice.limitDb * SHARE / 10));
  const fits = (share: number): boolean => {
    mix(share);
    return roundingError(kernels, memory, choice, mixed) <= most;
  };
  let [low, high] = fits(1) ? [1, 1] : [0, 1];
  for (let k = 0; k < HALVINGS && low < high; k++) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  mix(low);
  scales.set(mixed);
  memory.release(mark);
  return least;
}

/** The squared error of rounding to nearest. */
function roundingError(
  kernels: Kernels,
  memory: ScaleMemory,
  { weights, grid }: ScaleChoice,
  scales: Float32Array,
): number {
  const { rows, cols, groupRows, groupCols } = grid;
  const step = partRows(grid), isOneBand = groupRows === rows, across = cols / groupCols;
  const mark = memory.mark();
  const { codes, dequantized, stats } = roomForParts(memory, grid);
  stats.fill(0);
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const part = { rows: count, cols, groupRows: isOneBand ? count : groupRows, groupCols };
    const first = isOneBand ? 0 : (row / groupRows) * across;
    const own = scales.subarray(first, first + groupCount(part));
    const x = weights.subarray(row * cols, (row + count) * cols);
    kernels.quantize(codes.subarray(0, x.length), x, own, part);
    kernels.dequantize(dequantized.subarray(0, x.length), codes.subarray(0, x.length), own, part);
    kernels.errorStats(stats, x, dequantized.subarray(0, x.length));
  }
  const error = stats[STATS.squaredError]!;
  memory.release(mark);
  return error;
}
