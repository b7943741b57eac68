/**
 * Checks rows that a GPU rounded to nearest. Kernels are exact: every bit of codes and scales is compared,
 * for some bands of rows of every chunk, and for more of them in the first chunk of a kind.
 *
 * Cost: 1 / 256 of what rounding on the CPU takes. Besides, {@link roundingBound} holds
 * every tile to what rounding can leave, by figures that are made anyway.
 */

import {
  type Grid,
  type Kernels,
  LEVEL_STEPS,
  type LevelRounding,
  type OneSet,
} from "../../backend/backend.ts";
import { type LevelScheme, levelsOf, levelTables } from "../../quant/level_grid.ts";
import { LEAST_CLIP, roundToOneSet } from "../chunks/level_scales.ts";
import type { Scratch } from "../scratch.ts";
import { type CheckKernels, firstDifference, type GpuCheck } from "./gpu_check.ts";
import { bandsOf, copied, rowsAgain, type StoredRows } from "./stored_rows.ts";

/** Levels of the answer. */
export interface RoundedLevels {
  readonly rounding: LevelRounding | OneSet;
  readonly choices: Uint8Array;
}

/** The request and the answer. */
export interface RoundedRect extends StoredRows {
  readonly grid: Grid;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  /** Levels that codes may be, and the sets of groups, u8 `[rows, cols / groupCols]`; null: all are. */
  readonly levels: RoundedLevels | null;
}

/** The check of `rect`. */
export function quantizeCheck(rect: RoundedRect): GpuCheck {
  return {
    verify(cpu) {
      for (const band of bandsOf(rect, rect.grid)) {
        const wrong = checkBand(cpu, rect, band * rect.grid.groupRows);
        if (wrong !== null) return `${wrong} of ${rect.name}`;
      }
      return null;
    },
  };
}

function checkBand(cpu: CheckKernels, rect: RoundedRect, row: number): string | null {
  const { cols, groupRows, groupCols } = rect.grid;
  const grid: Grid = { rows: groupRows, cols, groupRows, groupCols };
  const count = groupRows * cols, groups = cols / groupCols;
  const more = count + 4 * groups + (rect.levels === null ? 0 : levelsBytes(rect.levels, count));
  const again = rowsAgain(cpu, rect, { row, rows: groupRows, cols }, more);
  if (again === null) return null;
  const { kernels, memory, x } = again;
  if (rect.convrotGroupSize !== null) kernels.rotate(x, rect.convrotGroupSize);
  const scales = memory.f32(groups), codes = memory.i8(count);
  kernels.absmax(scales, x, grid);
  if (rect.levels?.rounding.kind !== "one") kernels.scaleFromAbsmax(scales, scales);
  const first = row / groupRows * groups, own = rect.levels;
  if (own !== null) {
    const wrong = roundAgain({ kernels, memory }, own, { codes, x, scales, grid, row });
    if (wrong !== null) return `sets of levels of row ${row} (${wrong})`;
  } else {
    if (rect.scaleSearch) kernels.searchScale(scales, x, grid);
    kernels.quantize(codes, x, scales, grid);
  }
  const scale = firstDifference(rect.scales.subarray(first, first + groups), scales);
  if (scale !== null) return `scales of row ${row} (${scale})`;
  const code = firstDifference(rect.codes.subarray(row * cols, row * cols + count), codes);
  return code === null ? null : `codes of row ${row} (${code})`;
}

/** Bytes that {@link roundAgain} takes. */
function levelsBytes({ rounding }: RoundedLevels, count: number): number {
  if (rounding.kind === "one") {
    return count / rounding.groupCols + rounding.nearest.length + ONE_SET_BYTES;
  }
  const errors = rounding.kind === "table" ? rounding.errors.length : 0;
  return rounding.steps.length + rounding.first.length + errors + count / rounding.groupCols + 1024;
}

/** Bytes of the shares of a scale, and what alignment takes. */
const ONE_SET_BYTES = 1024;

/** Rounds rows to levels on the CPU. Returns where sets are others than the device chose; null: nowhere. */
function roundAgain(
  { kernels, memory }: { readonly kernels: Kernels; readonly memory: Scratch },
  { rounding, choices }: RoundedLevels,
  { codes, x, scales, grid, row }: {
    readonly codes: Int8Array;
    readonly x: Float32Array;
    readonly scales: Float32Array;
    readonly grid: Grid;
    readonly row: number;
  },
): string | null {
  const across = grid.cols / rounding.groupCols, found = memory.u8(grid.rows * across);
  if (rounding.kind === "one") {
    const own = {
      ...rounding,
      nearest: copied(memory.i8(rounding.nearest.length), rounding.nearest),
    };
    roundToOneSet({ kernels, scratch: memory }, { codes, choices: found, x, scales, grid }, own);
    return null; // there is no choice
  }
  const first = copied(memory.u8(rounding.first.length), rounding.first);
  if (rounding.kind === "table") {
    const steps = copied(memory.i8(rounding.steps.length), rounding.steps);
    const errors = copied(memory.u8(rounding.errors.length), rounding.errors);
    kernels.roundToTable(codes, found, x, scales, grid, { ...rounding, steps, first, errors });
  } else {
    const steps = copied(memory.u8(rounding.steps.length), rounding.steps);
    kernels.roundToSteps(codes, found, x, scales, grid, { ...rounding, steps, first });
  }
  return firstDifference(choices.subarray(row * across, (row + grid.rows) * across), found);
}

/**
 * Returns the largest sum of squared errors that rounding to nearest can leave with these scales. Without a
 * search no value is off by more than half a scale. A search shrinks scales to half of what they were at
 * the least, and takes only what is no worse than before. Some percent are for f32.
 *
 * @param scales f32, each for `groupElements` values.
 */
export function roundingBound(
  scales: Float32Array,
  groupElements: number,
  scaleSearch: boolean,
): number {
  const half = scaleSearch ? 1 : 0.5;
  let sum = 0;
  for (const scale of scales) sum += scale * scale;
  return 1.05 * half * half * groupElements * sum;
}

/**
 * Returns the largest sum of squared errors that rounding to levels can leave in rows of `cols`: each group
 * chooses a set that leaves no more than the first candidate does, whose levels lie half of their largest gap
 * apart at most. Half a scale and some percent are for errors that are counted in whole scales.
 */
export function levelsBound(
  scheme: LevelScheme,
  scales: Float32Array,
  cols: number,
  scaleSearch: boolean,
): number {
  const most = scheme.kind === "int4"
    // A search takes what loses no more than the scale that reaches the largest value.
    ? (0.5 + 1 / LEVEL_STEPS) / (scaleSearch ? LEAST_CLIP : 1)
    : farthestOf(scheme) + 0.5;
  let sum = 0;
  for (const scale of scales) sum += scale * scale;
  return 1.05 * most * most * cols * sum;
}

const FARTHEST = new Map<string, number>();

/** How many scales a value may be from the nearest level of the first set that is tried for its group. */
function farthestOf(scheme: LevelScheme): number {
  const key = JSON.stringify(scheme), known = FARTHEST.get(key);
  if (known !== undefined) return known;
  const { first } = levelTables(scheme, (count) => new Uint8Array(count));
  let farthest = 0;
  for (let bin = 0; bin < 127; bin++) {
    const levels = levelsOf(scheme, first[bin]!);
    const top = bin + 1 - Math.max(...levels), bottom = Math.min(...levels) + bin + 1;
    const gaps = levels.map((level, i) => i === 0 ? 0 : (level - levels[i - 1]!) / 2);
    farthest = Math.max(farthest, top, bottom, ...gaps);
  }
  FARTHEST.set(key, farthest);
  return farthest;
}
