/**
 * Holds error compensation to its word: rows whose outputs, on the data at hand, are no better for it are
 * rounded to nearest. On average compensation wins by far; if data is odd, or a row has few weights that
 * matter, chance may have it otherwise.
 *
 * Wide layers, and those of many inputs, are looked at by samples: of every band some rows, spread evenly; if all
 * of them gained clearly, the others did too, if a look by the factor in integers says so already. Otherwise every
 * row is looked at, in narrow layers by the factor in integers first, and exactly if that leaves a doubt.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Grid, Kernels, LevelSets } from "../../backend/backend.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import type { GptqFactor } from "../../quant/gptq.ts";
import { type RowSpaceFactor, rowSpaceObjectives } from "../../quant/row_space.ts";
import {
  type ObjectiveBounds,
  objectiveBounds,
  rowObjectives,
} from "../../quant/row_objectives.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

/** Columns up to which every row is looked at, unless there are many inputs. */
const NARROW_COLS = 1024;

/**
 * The {@link largestShare} from which on inputs are many: 800. Fewer leave it to chance which row gains: of
 * all-MiniLM-L6-v2 with 64 rows, 42 of 20,736 rows of weights have not gained where the sample has; with 1,024, none.
 * A share of 1 says nothing of how many they are.
 */
const MANY_INPUTS_SHARE = 0.95;

/** In wider layers: one row of so many, all having gained if what is left is at most this share. */
const SAMPLE_STRIDE = 16, CLEAR_GAIN = 0.8;

/**
 * Rows that are looked at together: the Hessian is prepared anew for each part, which in narrow layers takes
 * longer than its product with few rows.
 */
function partRows(rows: number, cols: number): number {
  const most = cols > NARROW_COLS ? 64 : Math.min(256, Math.floor(2 ** 17 / Math.max(1, cols)));
  return Math.min(rows, most);
}

/** Rounded rows, whole groups of a grid or part of the only one. */
export interface GuardedRows {
  /** In the space of the codes, f32 `[rows, cols]`. */
  readonly weights: Float32Array;
  /** In and out: i8 `[rows, cols]`. */
  readonly codes: Int8Array;
  /** In and out: f32, one per group. */
  readonly scales: Float32Array;
  /** Scales of rounding to nearest; may be `scales`. */
  readonly plain: Float32Array;
  readonly grid: Grid;
  /** The levels that codes may be, one set per group of columns; absent: all from -127 to 127. */
  readonly levels?: GuardedLevels | undefined;
}

/** Sets of levels of rows. */
export interface GuardedLevels extends LevelSets {
  /** In and out: u8 `[rows, cols / groupCols]`. */
  readonly choices: Uint8Array;
  /** What rounding to nearest takes; may be `choices`. */
  readonly plainChoices: Uint8Array;
}

/**
 * The largest share of the error of rounding to nearest that is taken for a gain. A Hessian of n inputs
 * shows squared errors with a deviation of sqrt(2 / n).
 */
export function largestShare(
  { statistic, rows }: Pick<Compensation, "statistic" | "rows">,
): number {
  return statistic === "activations" ? Math.max(0, 1 - Math.sqrt(2 / rows)) : 1;
}

/**
 * Rounds to nearest what compensation has not made better: single rows, or all rows of a group if
 * several rows share scales that are not those of rounding to nearest. Returns which rows.
 *
 * @param share the largest part of the error of rounding to nearest that is good enough.
 */
export function guardRows(
  context: Pick<ChunkContext, "kernels" | "scratch">,
  { quick, exact }: RowMeasures,
  rounded: GuardedRows & { readonly share: number },
): number[] {
  const { grid, scales, plain, share } = rounded;
  const { rows, cols } = grid;
  const unit = scales === plain ? 1 : grid.groupRows;
  const rowsOf = (indices: readonly number[]): number[] =>
    indices.flatMap((index) => Array.from({ length: unit }, (_, k) => index * unit + k));
  /** Those of the groups of `sample` that have not gained, as far as `measure` shows; null: it shows nothing. */
  const losersOf = (sample: readonly number[], most: number, measure: Measure): number[] | null => {
    const found = compareRows(context, measure, rounded, sample);
    if (found === null) return null;
    const fitted = new Float64Array(rows / unit), nearest = new Float64Array(rows / unit);
    sample.forEach((row, i) => {
      const index = Math.floor(row / unit);
      fitted[index]! += found.fitted[i]!;
      nearest[index]! += found.nearest[i]!;
    });
    return [...fitted.keys()].filter((index) => !(fitted[index]! <= most * nearest[index]!));
  };
  const isWide = cols > NARROW_COLS, clear = Math.min(share, CLEAR_GAIN);
  const areMany = share >= MANY_INPUTS_SHARE && share < 1;
  const isSampled = (isWide || areMany) && rows > 1;
  for (const measure of isSampled ? [quick, exact] : []) {
    if (measure === null) continue;
    const stride = SAMPLE_STRIDE, count = Math.ceil(rows / stride);
    const sample = Array.from({ length: count }, (_, i) => i * stride);
    if (losersOf(sample, clear, measure)?.length === 0) return [];
  }
  const all = Array.from({ length: rows }, (_, row) => row);
  const doubtful = isWide || quick === null ? null : losersOf(all, share, quick);
  const looked = doubtful === null ? all : rowsOf(doubtful);
  const lost = looked.length === 0 ? [] : losersOf(looked, share, exact)!;
  return roundToNearest(context, rounded, rowsOf(lost));
}

/** Rounds `losers`, all rows of the groups they are in, to nearest. Returns them. */
export function roundToNearest(
  { kernels }: Pick<ChunkContext, "kernels">,
  rounded: GuardedRows,
  losers: number[],
): number[] {
  const { weights, codes, scales, plain, grid, levels } = rounded;
  const { cols } = grid;
  for (const row of losers) {
    const first = row * cols, end = first + cols;
    const own = scalesOfRow(scales, grid, row);
    if (scales !== plain) own.set(scalesOfRow(plain, grid, row));
    if (levels !== undefined) {
      const from = row * cols / levels.groupCols, to = (row + 1) * cols / levels.groupCols;
      levels.choices.set(levels.plainChoices.subarray(from, to), from);
    }
    nearestRows(kernels, rounded, row, {
      codes: codes.subarray(first, end),
      weights: weights.subarray(first, end),
      scales: own,
    });
  }
  return losers;
}

/** Rounds rows to nearest, from row `row` on: one, or several that have scales of their own. */
function nearestRows(
  kernels: Kernels,
  { grid, levels }: Pick<GuardedRows, "grid" | "levels">,
  row: number,
  { codes, weights, scales }: Record<"weights" | "scales", Float32Array> & { codes: Int8Array },
): void {
  const own = ownGrid(grid, codes.length / grid.cols);
  if (levels === undefined) return kernels.quantize(codes, weights, scales, own);
  const across = grid.cols / levels.groupCols;
  const choices = levels.plainChoices.subarray(row * across, (row + own.rows) * across);
  kernels.quantizeLevels(codes, weights, scales, own, { ...levels, choices });
}

/** How errors of rows are measured: exactly, and, if there is a way, quickly, by bounds. */
export interface RowMeasures {
  readonly exact: Measure;
  readonly quick: Measure | null;
}

/** Measures by the Hessian that `factor` was made from. Not for the factor of a fallback. */
export function denseMeasures(
  context: Pick<ChunkContext, "kernels">,
  linalg: LinalgContext,
  factor: GptqFactor,
): RowMeasures {
  const decode: Kernels["decode"] = (...args) => context.kernels.decode(...args);
  return {
    exact: (errors) => sure(rowObjectives({ ...linalg, decode }, factor, errors)),
    quick: (errors) => objectiveBounds(linalg, factor, errors),
  };
}

/** Measures by the rows of inputs themselves. */
export function rowSpaceMeasures(
  context: Pick<ChunkContext, "kernels">,
  linalg: LinalgContext,
  factor: RowSpaceFactor,
): RowMeasures {
  const rotate: Kernels["rotate"] = (...args) => context.kernels.rotate(...args);
  return {
    exact: (errors) => sure(rowSpaceObjectives({ ...linalg, rotate }, factor, errors)),
    quick: null,
  };
}

function sure(found: Float64Array): ObjectiveBounds {
  return { least: found, most: found };
}

/**
 * Counts what {@link guardRows} takes for `rows` rows.
 *
 * @param measure counts what measuring the errors of so many rows takes.
 */
export function planGuard(
  memory: CountedMemory,
  { rows, cols }: Pick<Grid, "rows" | "cols">,
  measure: (rows: number) => void,
): void {
  const part = partRows(rows, cols);
  memory.within(() => {
    roomForRows(memory, part, cols);
    measure(2 * part);
  });
}

/** Errors of rows as they are and rounded to nearest, and codes of the latter. */
function roomForRows(scratch: Pick<Scratch, "f32" | "i8">, part: number, cols: number) {
  return { errors: scratch.f32(2 * part * cols), nearest: scratch.i8(part * cols) };
}

/** Rows by themselves; a single one has the scales of its group. */
function ownGrid({ cols, groupCols }: Grid, rows: number): Grid {
  return { rows, cols, groupRows: 1, groupCols };
}

/** The scales of `rows` rows from `row` on; several have scales of their own. */
function scalesOfRow(
  scales: Float32Array,
  { cols, groupRows, groupCols }: Grid,
  row: number,
  rows = 1,
): Float32Array {
  const across = cols / groupCols, first = Math.floor(row / groupRows) * across;
  return scales.subarray(first, first + rows * across);
}

/** Rows that follow one another. */
interface RowRun {
  readonly row: number;
  readonly count: number;
}

/** Returns the runs of `rows`, which ascend, of at most `most` each. */
function runsOf(rows: readonly number[], most: number): RowRun[] {
  const runs: { row: number; count: number }[] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last !== undefined && last.count < most && row === last.row + last.count) last.count++;
    else runs.push({ row, count: 1 });
  }
  return runs;
}

/** Squared output errors of rows, or what they lie between; null: not to be had this way. */
export type Measure = (errors: MatrixF32) => ObjectiveBounds | null;

/**
 * The squared output errors of some rows, as they are (at most) and rounded to nearest (at least); null if
 * `measure` has none.
 */
export function compareRows(
  { kernels, scratch }: Pick<ChunkContext, "kernels" | "scratch">,
  measure: Measure,
  rounded: GuardedRows,
  rows: readonly number[],
): { fitted: Float64Array; nearest: Float64Array } | null {
  const { weights, codes, scales, plain, grid } = rounded, { cols } = grid;
  const fitted = new Float64Array(rows.length), nearest = new Float64Array(rows.length);
  const mark = scratch.mark();
  const part = partRows(rows.length, cols);
  const { errors, nearest: own } = roomForRows(scratch, part, cols);
  const addErrors = (at: number, w: Float32Array, code: Int8Array, scale: Float32Array): void => {
    const e = errors.subarray(at * cols, at * cols + w.length);
    kernels.dequantize(e, code, scale, ownGrid(grid, w.length / cols));
    kernels.subtract(e, w, e);
  };
  for (let start = 0; start < rows.length; start += part) {
    const now = rows.slice(start, start + part);
    let at = 0;
    for (const { row, count } of runsOf(now, grid.groupRows === 1 ? part : 1)) {
      const w = weights.subarray(row * cols, (row + count) * cols);
      const code = codes.subarray(row * cols, (row + count) * cols);
      addErrors(at, w, code, scalesOfRow(scales, grid, row, count));
      const found = { codes: own.subarray(0, w.length), weights: w };
      const scale = scalesOfRow(plain, grid, row, count);
      nearestRows(kernels, rounded, row, { ...found, scales: scale });
      addErrors(now.length + at, w, found.codes, scale);
      at += count;
    }
    const both = matrix(errors, 2 * now.length, cols);
    const found = measure(both);
    if (found === null) {
      scratch.release(mark);
      return null;
    }
    fitted.set(found.most.subarray(0, now.length), start);
    nearest.set(found.least.subarray(now.length), start);
  }
  scratch.release(mark);
  return { fitted, nearest };
}
