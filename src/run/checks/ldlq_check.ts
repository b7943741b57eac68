/**
 * Checks rows that a GPU rounded with error compensation. Codes of a device differ now and then, if a value
 * lies next to the middle between two, and what follows differs then, too. So codes are not compared but
 * held to the rule they obey: every code is the nearest one to its weight and what the errors of the codes
 * after it feed back, up to the rounding of those sums:
 *
 *     |w[j] + sum over k > j of e[k] L̃[k, j] - code[j] s[j]| <= s[j] / 2 + tolerance,   e = w - code s
 *
 * With few levels (`quant/level_grid.ts`) no level of the set of its group may be nearer, and the set must be the
 * one of least error of those that are tried, each rounded with errors fed back within the group (`BlockSearch`). A set
 * for which a value lies next to the middle between two levels says nothing: either of them may be taken, and what
 * follows differs.
 *
 * Errors follow from codes exactly, so that nothing of the device is needed. All of a row take K² / 2 multiply-adds
 * in f64; 16 columns of each 128 an eighth of that, some milliseconds, where factoring the Hessian of the layer
 * takes thousands of times as long. Those of one row of every layer are checked, and of some rows of the first layer of
 * a kind; of the first one of these, or if
 * sets are chosen, all.
 */

import type { GptqFactor } from "../../quant/gptq.ts";
import { LEVEL_STEPS, LEVEL_TABLE, type LevelSearch } from "../../backend/backend.ts";
import { LEVELS_ABOVE, LEVELS_TRIED } from "../../linalg/linalg_kernels.ts";
import { LDLQ_BLOCK as LDLQ_WIDTH } from "../../linalg/packed_factor.ts";
import type { GptqRows, RowLevels } from "../../quant/rows_in_order.ts";
import type { GpuStorage } from "../gpu_requests.ts";
import { FLUSHED, sumTolerance } from "./product_check.ts";
import type { Random } from "../../core/rng.ts";
import { type GpuCheck, randomOf, spread } from "./gpu_check.ts";

/** Rows that are checked of the first layer of a kind. */
const FIRST_ROWS = 4;

/** Parts by which a number, and a product of two, is off as the device stores them. */
const STORED_ERROR: Readonly<Record<GpuStorage, number>> = Object.freeze({
  f32: 0,
  f16: 2.1 * 2 ** -11,
});

/** f16 has no finer step than this near zero. */
const F16_STEP = 2 ** -24;

/** Facts of a layer whose rows are checked. */
export interface CheckedLayer {
  readonly name: string;
  readonly factor: GptqFactor;
  readonly storage: GpuStorage;
  readonly isFirst: boolean;
}

/**
 * Returns the check of `rows`, which are about to be rounded; null: they are not the ones of their layer that
 * are checked.
 *
 * @param layerRows rows of the whole layer.
 */
export function ldlqCheck(
  { name, factor, storage, isFirst }: CheckedLayer,
  rows: GptqRows & { readonly errors: boolean; readonly layerRow: number },
  layerRows: number,
): GpuCheck | null {
  const { size } = factor, count = rows.weights.length / size;
  const wanted = isFirst ? FIRST_ROWS : 1;
  // A set that is not the best one is nearly as good: it takes many to see that they were not chosen.
  const choosesSets = (rows.levels?.search ?? null) !== null;
  const place = rows.layerRow, random = randomOf(name);
  const chosen = spread(layerRows, wanted, random)
    .map((row) => row - place)
    .filter((row) => row >= 0 && row < count);
  if (chosen.length === 0) return null;
  let before: Float32Array[] = [];
  return {
    prepare() {
      before = chosen.map((row) => rows.weights.slice(row * size, (row + 1) * size));
    },
    verify() {
      for (const [index, row] of chosen.entries()) {
        const given = {
          row,
          weights: before[index]!,
          isWhole: isFirst && (index === 0 || choosesSets),
          random,
        };
        const wrong = checkRow(factor, storage, rows, given);
        if (wrong !== null) return `${wrong} in row ${place + row} of ${JSON.stringify(name)}`;
      }
      return null;
    },
  };
}

/** Columns that lie side by side in the order of the factor, within one block of those that are rounded at a time. */
interface Run {
  readonly start: number;
  readonly end: number;
}

/** Columns of a run: two lines of the cache of the factor. */
const RUN_COLS = 16;

/** The columns of a row that are checked: a run in each block of columns, or all of them. */
function* runsOf(
  { size, blockSize }: GptqFactor,
  runCols: number,
  isWhole: boolean,
  random: Random,
): Iterable<Run> {
  for (let first = 0; first < size; first += blockSize) {
    for (let at = 0; at < blockSize; at += LDLQ_WIDTH) {
      const start = first + at, width = Math.min(LDLQ_WIDTH, blockSize - at);
      if (isWhole || width <= runCols) {
        yield { start, end: start + width };
        continue;
      }
      const chosen = (random() % Math.ceil(width / runCols)) * runCols;
      yield { start: start + chosen, end: start + Math.min(width, chosen + runCols) };
    }
  }
}

/** What the codes after each column of a run feed back, not yet divided by the diagonal. */
interface Fed {
  readonly fed: Float64Array;
  /** Sums of the magnitudes of the terms. */
  readonly sizes: Float64Array;
}

/** Sums up what `error`, in the order of the factor, feeds back into a run. */
function feedBack(
  { blockSize, values }: GptqFactor,
  error: Float64Array,
  { start, end }: Run,
): Fed {
  const width = end - start, first = start - start % blockSize;
  const fed = new Float64Array(width), sizes = new Float64Array(width);
  const add = (k: number, count: number) => {
    const e = error[k]!, magnitude = Math.abs(e), from = k * blockSize + start - first;
    for (let j = 0; j < count; j++) {
      const l = values[from + j]!;
      fed[j] = fed[j]! + e * l;
      sizes[j] = sizes[j]! + magnitude * Math.abs(l);
    }
  };
  const own = start - (start - first) % LDLQ_WIDTH;
  const blockEnd = Math.min(own + LDLQ_WIDTH, first + blockSize);
  for (let k = first + blockSize - 1; k >= blockEnd; k--) add(k, width);
  for (let k = blockEnd - 1; k > start; k--) add(k, Math.min(width, k - start));
  return { fed, sizes };
}

/** For each column the magnitudes of the errors after it, added up: each term has a part that F16 rounds to zero. */
function magnitudesAfter({ size, blockSize }: GptqFactor, error: Float64Array): Float64Array {
  const sums = new Float64Array(size);
  for (let k = size - 2; k >= 0; k--) {
    if (k % blockSize !== blockSize - 1) sums[k] = sums[k + 1]! + Math.abs(error[k + 1]!);
  }
  return sums;
}

/** A row that is checked. */
interface CheckedRow {
  readonly row: number;
  /** Its weights before it was rounded. */
  readonly weights: Float32Array;
  /** Whether all of its columns are checked. */
  readonly isWhole: boolean;
  readonly random: Random;
}

function checkRow(
  factor: GptqFactor,
  storage: GpuStorage,
  rows: GptqRows & { errors: boolean },
  { row, weights, isWhole, random }: CheckedRow,
): string | null {
  const { size, blockSize, values, order } = factor;
  const { weights: after, codes, scales, grid, firstRow, errors, levels } = rows;
  const at = row * size, across = grid.cols / grid.groupCols;
  const scaleRow = Math.floor((firstRow + row) / grid.groupRows) * across;
  const columnOf = (k: number) => order === null ? k : order[k]!;
  const scaleOf = (column: number) => scales[scaleRow + Math.floor(column / grid.groupCols)]!;
  const error = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    const column = columnOf(k);
    const taken = Math.fround(codes[at + column]! * scaleOf(column));
    error[k] = Math.fround(weights[column]! - taken);
    if (errors && after[at + column] !== error[k]) {
      return `an error of ${after[at + column]} instead of ${error[k]} of column ${column}`;
    }
  }
  const steps = magnitudesAfter(factor, error);
  const relative = sumTolerance(size) + STORED_ERROR[storage];
  const runCols = Math.max(RUN_COLS, levels?.search ? levels.groupCols : 0);
  for (const run of runsOf(factor, runCols, isWhole, random)) {
    const { fed, sizes } = feedBack(factor, error, run), slacks = new Float64Array(fed.length);
    for (let k = run.end - 1; k >= run.start; k--) {
      const column = columnOf(k), s = scaleOf(column), code = codes[at + column]!;
      const j = k - run.start, diagonal = values[k * blockSize + k % blockSize]!;
      const wanted = weights[column]! + fed[j]! / diagonal;
      const magnitude = sizes[j]! / diagonal + Math.abs(weights[column]!);
      const steps16 = storage === "f16" ? F16_STEP * (steps[k]! + blockSize * s) : 0;
      const slack = relative * magnitude + steps16 + s * 1e-5 + FLUSHED;
      slacks[j] = slack / s;
      const isNearest = levels === undefined
        ? isNearestCode(wanted - code * s, code, s / 2 + slack)
        : isNearestLevel(levels, firstRow * size + at + column, wanted / s, {
          code,
          slack: slack / s,
        });
      if (!isNearest) return `code ${code} for ${wanted / s} in column ${column}`;
    }
    if (!levels?.search) continue;
    const { groupCols } = levels;
    for (let k = run.start; k < run.end; k += groupCols) {
      const group = Math.floor((firstRow * size + at + columnOf(k)) / groupCols);
      const from = k - run.start, slack = slacks.subarray(from, from + groupCols);
      const reached = reachedGroup(factor, k, {
        ...{ slack, scale: scaleOf(columnOf(k)) },
        own: (i) => weights[columnOf(k + i)]!,
        fed: (i) => fed[from + i]!,
        error: (i) => error[k + i]!,
      });
      const wrong = checkSet(levels, levels.search, group, reached);
      if (wrong !== null) return `${wrong} of columns from ${columnOf(k)} on`;
    }
  }
  return null;
}

/** Whether `code`, from which the value is `off`, is the nearest of those from -127 to 127. */
function isNearestCode(off: number, code: number, allowed: number): boolean {
  return code === 127 ? off >= -allowed : code === -127 ? off <= allowed : Math.abs(off) <= allowed;
}

/** Units of a scale that levels are looked up in: a value may be off by half of one. */
const HALF_UNIT = 0.5 / LEVEL_STEPS;

/** Whether no level of the set of element `at` is nearer to `value`, in scales, than `code`, one of them. */
function isNearestLevel(
  { choices, groupCols, nearest }: RowLevels,
  at: number,
  value: number,
  { code, slack }: { readonly code: number; readonly slack: number },
): boolean {
  const set = choices[Math.floor(at / groupCols)]!;
  const farthest = Math.abs(value - levelAt(nearest, set, value)) + 2 * (slack + HALF_UNIT);
  return levelAt(nearest, set, code) === code && Math.abs(value - code) <= farthest;
}

/** The level of a set that is nearest to `value`, in scales: see `LevelSets`. */
function levelAt(nearest: Int8Array, set: number, value: number): number {
  const half = Math.max(-255, Math.min(256, Math.ceil(2 * value)));
  return nearest[set * LEVEL_TABLE + half + 255]!;
}

/** A group of columns when it is reached, in scales. */
interface ReachedGroup {
  /** Weights, and what all columns after the group feed back into them. */
  readonly values: Float64Array;
  /** The weights alone. */
  readonly weights: Float64Array;
  /** What the device took of them. */
  readonly errors: Float64Array;
  /** The factor within the group, `[groupCols, groupCols]`, unit lower. */
  readonly factor: Float64Array;
  /** By how much a value may be another on the device. */
  readonly slack: Float64Array;
}

/** The group that begins at place `k` in the order of the factor. */
function reachedGroup(
  { blockSize, values }: GptqFactor,
  k: number,
  { slack, scale, own, fed, error }: {
    readonly slack: Float64Array;
    readonly scale: number;
    own(i: number): number;
    fed(i: number): number;
    error(i: number): number;
  },
): ReachedGroup {
  const count = slack.length, column = k % blockSize;
  const factor = new Float64Array(count * count);
  const errors = Float64Array.from({ length: count }, (_, i) => error(i) / scale);
  const weights = Float64Array.from({ length: count }, (_, i) => own(i) / scale);
  const reached = Float64Array.from({ length: count }, (_, i) => {
    const diagonal = values[(k + i) * blockSize + column + i]!;
    let within = 0;
    for (let d = i + 1; d < count; d++) {
      const l = values[(k + d) * blockSize + column + i]! / diagonal;
      factor[d * count + i] = l;
      within += errors[d]! * l;
    }
    return weights[i]! + fed(i) / diagonal / scale - within;
  });
  return { values: reached, weights, errors, factor, slack };
}

/**
 * Looks whether the set that a group chose is the one of least error, but for what rounding of sums and to units can
 * change. The largest value decides which ones are tried: it may lie next to the middle between two, too.
 */
function checkSet(
  { choices, nearest }: RowLevels,
  { first }: LevelSearch,
  group: number,
  reached: ReachedGroup,
): string | null {
  const { values, weights, errors, slack } = reached, chosen = choices[group]!;
  const most = values.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  const off = slack.reduce((sum, value) => Math.max(sum, value), 0) + HALF_UNIT;
  const last = nearest.length / LEVEL_TABLE - 1;
  const least = [-off, off].map((by) => {
    const start = Math.min(last, first[placeOf(most + by)]! + LEVELS_ABOVE);
    const tried = Array.from({ length: LEVELS_TRIED }, (_, k) => Math.max(0, start - k));
    return Math.min(...tried.map((set) => errorOfSet(nearest, set, reached)));
  });
  const want = Math.max(...least);
  if (want === Infinity) return null;
  // Codes are w - e: what the device left is known without a doubt.
  const left = fedWithin(reached, (c, value) => value - (weights[c]! - errors[c]!));
  // Sums of squares as lengths: each value is off by at most that, on both sides.
  const allowed = Math.sqrt(want) + 2 * off * Math.sqrt(values.length);
  return Math.sqrt(left) <= allowed
    ? null
    : `set ${chosen}, which leaves ${left.toPrecision(6)} instead of ${want.toPrecision(6)},`;
}

/** The squared error of a group that is rounded with `set`; infinite if rounding of sums may change a level. */
function errorOfSet(nearest: Int8Array, set: number, reached: ReachedGroup): number {
  let isSure = true;
  const sum = fedWithin(reached, (c, value) => {
    // Levels of another set make other sums, about as large.
    const off = 4 * reached.slack[c]!;
    const [low, level, high] = [-off, 0, off].map((by) => deviceLevel(nearest, set, value + by));
    isSure &&= low === level && level === high;
    return value - level!;
  });
  return isSure ? sum : Infinity;
}

/** The squared errors that `left` of each value, errors fed back within the group, added up. */
function fedWithin(
  { values, weights, factor }: ReachedGroup,
  left: (c: number, value: number) => number,
): number {
  const count = values.length, own = values.slice();
  let sum = 0;
  for (let c = count - 1; c >= 0; c--) {
    const rest = left(c, own[c]!), error = weights[c]! - (own[c]! - rest);
    sum += rest ** 2;
    for (let i = 0; i < c; i++) own[i] = own[i]! + error * factor[c * count + i]!;
  }
  return sum;
}

/** The level of a set that a device finds for `value`, in scales. */
function deviceLevel(nearest: Int8Array, set: number, value: number): number {
  const units = Math.max(-8191, Math.min(8191, Math.round(value * LEVEL_STEPS)));
  const half = Math.max(-255, Math.min(256, (units + 15) >> 4));
  return nearest[set * LEVEL_TABLE + half + 255]!;
}

/** Place of a largest magnitude, in scales, in `LevelSearch.first`. */
function placeOf(magnitude: number): number {
  return Math.max(0, Math.min(255, Math.floor(magnitude)));
}
