/**
 * Checks rows that a GPU rounded to nearest. Kernels are exact: every bit of codes and scales is compared,
 * for some bands of rows of every chunk, and for more of them in the first chunk of a kind.
 *
 * Cost: 1 / {@link BANDS_PER_CHECK} of what rounding on the CPU takes. Besides, {@link roundingBound} holds
 * every tile to what rounding can leave, by figures that are made anyway.
 */

import type { Grid, Kernels, LevelRounding } from "../../backend/backend.ts";
import { DTYPE_BITS, type FloatDType } from "../../core/dtype.ts";
import type { LinalgKernels } from "../../linalg/linalg_kernels.ts";
import { type LevelScheme, levelsOf, levelTables } from "../../quant/level_grid.ts";
import { addShortRows } from "../chunks/merge_rect.ts";
import type { AddedRows, ShortRows } from "../gpu_requests.ts";
import type { Scratch } from "../scratch.ts";
import {
  type CheckKernels,
  firstDifference,
  type GpuCheck,
  randomOf,
  spread,
} from "./gpu_check.ts";

/** Of so many bands one is checked, in every chunk at least one. */
const BANDS_PER_CHECK = 256;

/** Bands that are checked of the first chunk of a kind. */
const FIRST_BANDS = 32;

/** Levels of the answer. */
export interface RoundedLevels {
  readonly rounding: LevelRounding;
  readonly choices: Uint8Array;
}

/** The request and the answer. */
export interface RoundedRect {
  /** Says which one it is. */
  readonly name: string;
  readonly raw: Uint8Array;
  readonly dtype: FloatDType;
  /** Added to the values before they are rounded. */
  readonly changes: readonly AddedRows[];
  readonly grid: Grid;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  /** Levels that codes may be, and the sets of groups, u8 `[rows, cols / groupCols]`; null: all are. */
  readonly levels: RoundedLevels | null;
  /** Whether it is the first of its kind. */
  readonly isFirst: boolean;
}

/** The check of `rect`. */
export function quantizeCheck(rect: RoundedRect): GpuCheck {
  return {
    verify(cpu) {
      for (const band of bandsOf(rect)) {
        const wrong = checkBand(cpu, rect, band * rect.grid.groupRows);
        if (wrong !== null) return `${wrong} of ${rect.name}`;
      }
      return null;
    },
  };
}

/** The bands that are checked: some of all, and one of those that each pair changes, be they ever so few. */
function bandsOf({ grid, name, isFirst, changes }: RoundedRect): Iterable<number> {
  const bands = grid.rows / grid.groupRows, random = randomOf(name);
  const wanted = Math.max(isFirst ? FIRST_BANDS : 1, Math.ceil(bands / BANDS_PER_CHECK));
  const found = new Set(spread(bands, wanted, random));
  for (const change of changes) {
    const row = change.firstRow + random() % Math.max(1, rowsOf(change));
    if (row < grid.rows) found.add(Math.floor(row / grid.groupRows));
  }
  return found;
}

function checkBand(cpu: CheckKernels, rect: RoundedRect, row: number): string | null {
  const { cols, groupRows, groupCols } = rect.grid;
  const grid: Grid = { rows: groupRows, cols, groupRows, groupCols };
  const count = groupRows * cols, bytes = count * DTYPE_BITS[rect.dtype] / 8;
  const groups = cols / groupCols;
  const changes = rect.changes.flatMap((change) => changeWithin(change, row, groupRows) ?? []);
  const memory = cpu.memory(
    5 * count + bytes + 4 * groups + 4096 +
      changes.reduce((sum, change) => sum + changeBytes(change, cols), 0) +
      (rect.levels === null ? 0 : levelsBytes(rect.levels, count)),
  );
  const { kernels } = cpu; // of the memory just taken
  const raw = memory.u8(bytes), x = memory.f32(count);
  raw.set(rect.raw.subarray(row * cols * bytes / count, row * cols * bytes / count + bytes));
  kernels.decode(x, raw, rect.dtype);
  for (const change of changes) {
    const own = x.subarray(change.firstRow * cols, (change.firstRow + rowsOf(change)) * cols);
    addAgain(cpu.linalg, memory, own, change, cols);
  }
  // The one who asked reports them.
  if (kernels.countNonFinite(x).count > 0) return null;
  if (rect.convrotGroupSize !== null) kernels.rotate(x, rect.convrotGroupSize);
  const scales = memory.f32(groups), codes = memory.i8(count);
  kernels.absmax(scales, x, grid);
  kernels.scaleFromAbsmax(scales, scales);
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
  const errors = rounding.kind === "table" ? rounding.errors.length : 0;
  return rounding.steps.length + rounding.first.length + errors + count / rounding.groupCols + 1024;
}

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

function copied<T extends Int8Array | Uint8Array | Int32Array | Float32Array>(into: T, from: T): T {
  into.set(from);
  return into;
}

function rowsOf(change: AddedRows): number {
  return "a" in change ? change.b.length / change.rank : change.rows;
}

/** The part of a change that concerns `count` rows from `row` on, its first row counted from there; null: none. */
function changeWithin(change: AddedRows, row: number, count: number): AddedRows | null {
  const start = Math.max(row, change.firstRow), skipped = start - change.firstRow;
  const rows = Math.min(row + count, change.firstRow + rowsOf(change)) - start;
  if (!(rows > 0)) return null;
  const firstRow = start - row;
  if ("a" in change) {
    const { rank, a, b } = change;
    return { firstRow, rank, a, b: b.subarray(skipped * rank, (skipped + rows) * rank) };
  }
  return { ...change, firstRow, rows, left: linesOf(change, skipped, rows) };
}

/** Some rows of the strips of four that a change has, in strips of four, the last filled with zeros. */
function linesOf({ left, terms }: ShortRows, first: number, rows: number): ShortRows["left"] {
  const pairs = Math.ceil(terms / 2), padded = 4 * Math.ceil(rows / 4);
  const own = { pairs: new Int32Array(padded * pairs), scales: new Float32Array(padded) };
  const place = (row: number, p: number) => (row - row % 4) * pairs + 4 * p + row % 4;
  for (let r = 0; r < rows; r++) {
    own.scales[r] = left.scales[first + r]!;
    for (let p = 0; p < pairs; p++) own.pairs[place(r, p)] = left.pairs[place(first + r, p)]!;
  }
  return own;
}

/** Bytes that {@link addAgain} takes. */
function changeBytes(change: AddedRows, cols: number): number {
  if ("a" in change) return 4 * (change.a.length + change.b.length) + 256;
  const { left, right } = change;
  const numbers = left.pairs.length + left.scales.length + right.pairs.length + right.scales.length;
  return 4 * (numbers + 4 * cols) + 512;
}

/** Adds a change to its rows once more. */
function addAgain(
  linalg: LinalgKernels,
  memory: Scratch,
  x: Float32Array,
  change: AddedRows,
  cols: number,
): void {
  if ("a" in change) {
    const { rank } = change, rows = rowsOf(change);
    const b = copied(memory.f32(change.b.length), change.b);
    const a = copied(memory.f32(change.a.length), change.a);
    return linalg.addLowRank(x, b, a, { rows, cols, rank });
  }
  const local = ({ pairs, scales }: ShortRows["left"]) => ({
    pairs: copied(memory.i32(pairs.length), pairs),
    scales: copied(memory.f32(scales.length), scales),
  });
  const own = { ...change, left: local(change.left), right: local(change.right) };
  addShortRows(linalg, x, memory.f32(4 * cols), [own]);
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
export function levelsBound(scheme: LevelScheme, scales: Float32Array, cols: number): number {
  const most = farthestOf(scheme) + 0.5;
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
