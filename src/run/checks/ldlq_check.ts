/**
 * Checks rows that a GPU rounded with error compensation. Codes of a device differ now and then, if a value
 * lies next to the middle between two, and what follows differs then, too. So codes are not compared but
 * held to the rule they obey: every code is the nearest one to its weight and what the errors of the codes
 * after it feed back, up to the rounding of those sums:
 *
 *     |w[j] + sum over k > j of e[k] L̃[k, j] - code[j] s[j]| <= s[j] / 2 + tolerance,   e = w - code s
 *
 * With few levels (`quant/level_grid.ts`) no level of the set of its group may be nearer, and the set must be the
 * one of least error of those that are tried, as far as sums tell.
 *
 * Errors follow from codes exactly, so that one row takes K² / 2 multiply-adds in f64, and nothing of the device.
 * That is some milliseconds; factoring the Hessian of the layer takes hundreds of times as long. One row
 * of every layer is checked, more of the first layer of a kind.
 */

import type { GptqFactor } from "../../quant/gptq.ts";
import { LEVEL_STEPS, LEVEL_TABLE } from "../../backend/backend.ts";
import { LDLQ_BLOCK as LDLQ_WIDTH } from "../../linalg/packed_factor.ts";
import type { GptqRows, RowLevels } from "../../quant/rows_in_order.ts";
import type { GpuStorage } from "../gpu_requests.ts";
import { FLUSHED, sumTolerance } from "./product_check.ts";
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
  const place = rows.layerRow;
  const chosen = spread(layerRows, wanted, randomOf(name))
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
        const wrong = checkRow(factor, storage, rows, { row, weights: before[index]! });
        if (wrong !== null) return `${wrong} in row ${place + row} of ${JSON.stringify(name)}`;
      }
      return null;
    },
  };
}

/** A row, and what the codes after each of its columns feed back. */
interface FedRow {
  /** Sums in the order of the factor, and the sums of their magnitudes. */
  readonly fed: Float64Array;
  readonly sizes: Float64Array;
  /** The same of columns of later blocks alone, not yet divided by the diagonal. */
  readonly fedBefore: Float64Array;
  /** Magnitudes of errors, added up: what F16 rounds to zero. */
  readonly steps: Float64Array;
}

/** Sums up what `error`, in the order of the factor, feeds back. */
function feedBack({ size, blockSize, values }: GptqFactor, error: Float64Array): FedRow {
  const arrays = () => new Float64Array(size);
  const row = { fed: arrays(), sizes: arrays(), fedBefore: arrays(), steps: arrays() };
  const { fed, sizes, fedBefore, steps } = row;
  for (let first = 0; first < size; first += blockSize) {
    for (let k = blockSize - 1; k > 0; k--) {
      const from = (first + k) * blockSize, e = error[first + k]!, magnitude = Math.abs(e);
      // Where the block of columns begins that column k is rounded in.
      const own = k - k % LDLQ_WIDTH;
      for (let j = 0; j < k; j++) {
        const l = values[from + j]!, term = e * l;
        fed[first + j] = fed[first + j]! + term;
        if (j < own) fedBefore[first + j] = fedBefore[first + j]! + term;
        sizes[first + j] = sizes[first + j]! + magnitude * Math.abs(l);
      }
      steps[first + k - 1] = magnitude;
    }
    // Values that f16 rounds to zero: the same for every term that a column gets.
    for (let j = blockSize - 2; j >= 0; j--) {
      steps[first + j] = steps[first + j]! + steps[first + j + 1]!;
    }
  }
  return row;
}

function checkRow(
  factor: GptqFactor,
  storage: GpuStorage,
  rows: GptqRows & { errors: boolean },
  { row, weights }: { readonly row: number; readonly weights: Float32Array },
): string | null {
  const { size, blockSize, values, order } = factor;
  const { weights: after, codes, scales, grid, firstRow, errors } = rows;
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
  const { fed, sizes, fedBefore, steps } = feedBack(factor, error);
  const relative = sumTolerance(size) + STORED_ERROR[storage];
  const wanted = new Float64Array(size);
  for (let k = size - 1; k >= 0; k--) {
    const column = columnOf(k), s = scaleOf(column), code = codes[at + column]!;
    const j = k % blockSize, diagonal = values[k * blockSize + j]!;
    const target = weights[column]! + fed[k]! / diagonal;
    const size = sizes[k]! / diagonal + Math.abs(weights[column]!);
    const steps16 = storage === "f16" ? F16_STEP * (steps[k]! + blockSize * s) : 0;
    const slack = relative * size + steps16 + s * 1e-5 + FLUSHED;
    wanted[column] = (weights[column]! + fedBefore[k]! / diagonal) / s;
    const isNearest = rows.levels === undefined
      ? isNearestCode(target - code * s, code, s / 2 + slack)
      : isNearestLevel(rows.levels, firstRow * size + at + column, target / s, {
        code,
        slack: slack / s,
      });
    if (!isNearest) return `code ${code} for ${target / s} in column ${column}`;
  }
  return rows.levels === undefined
    ? null
    : checkSets(rows.levels, wanted, (firstRow * size + at) / rows.levels.groupCols);
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

/**
 * Looks whether sets that were chosen when their columns were reached, for `wanted` values in scales, are those of
 * least error, but for what rounding of sums and to units can change. The largest value of a group decides which
 * ones are tried: it may lie next to the middle between two, too.
 */
function checkSets(
  { choices, groupCols, nearest, search }: RowLevels,
  wanted: Float64Array,
  firstGroup: number,
): string | null {
  if (!search) return null;
  for (let group = 0; group < wanted.length / groupCols; group++) {
    const values = wanted.subarray(group * groupCols, (group + 1) * groupCols);
    const chosen = choices[firstGroup + group]!;
    const errorOf = (set: number) =>
      values.reduce((sum, value) => sum + (value - levelAt(nearest, set, value)) ** 2, 0);
    const most = values.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
    const starts = [-1, 1].map((sign) => search.first[placeOf(most + sign * SET_SLACK)]!);
    const least = starts.map((start) => {
      const tried = Array.from({ length: search.candidates }, (_, k) => Math.max(0, start - k));
      return Math.min(...tried.map(errorOf));
    });
    const error = errorOf(chosen);
    // Each value may be off by the slack, and its error with it.
    const allowed = 2 * SET_SLACK * (Math.sqrt(error * groupCols) + groupCols);
    if (!(error <= Math.max(...least) + allowed)) {
      return `set ${chosen} for group ${group}, which leaves ${error} instead of ${least[0]}`;
    }
  }
  return null;
}

/** Scales by which a value may be another than the device saw, when it chose sets. */
const SET_SLACK = 1 / 16;

/** Place of a largest magnitude, in scales, in `LevelSearch.first`. */
function placeOf(magnitude: number): number {
  return Math.max(0, Math.min(255, Math.floor(magnitude)));
}
