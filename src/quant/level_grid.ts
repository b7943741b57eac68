/**
 * The grids of formats whose codes stand for few of the integers from -127 to 127. A weight is
 *
 *     level * scale,   level one of the levels of the set that its group has
 *
 * so that everything that works on INT8 (errors, guards, compensation) works on levels as it does on codes, and
 * only what rounds needs to know which levels there are: the tables of {@link levelTables}, by kernels
 * (`quantizeLevels`, `searchLevels`, `ldlqLevels`). A format with such a grid says it as plain data,
 * {@link LevelScheme}; how levels become its codes is {@link LevelTables.codes}.
 */

import {
  LEVEL_CANDIDATES,
  LEVEL_TABLE,
  type LevelRounding,
  STEPS_BYTES,
  TABLE_BYTES,
  TABLE_ERROR_BYTES,
} from "../backend/backend.ts";
import { f8e4m3ToF32 } from "../core/dtype.ts";

/** A grid of levels, as plans and tasks have it: plain JSON. */
export type LevelScheme =
  /**
   * Every group has a scale in E4M3: levels are `clamp(round(table[code] * scale), -127, 127)`. The set of a
   * group is the byte of its scale.
   */
  | {
    readonly kind: "scaled";
    readonly bits: 4 | 6;
    /** Columns of a group. */
    readonly groupCols: number;
    /** Values of the codes, ascending. */
    readonly table: readonly number[];
    /** The code of the first entry. */
    readonly firstCode: number;
    /** The table is fitted to the weight (`convert/fit/fit_codebooks.ts`) before the work. Absent: it is the default. */
    readonly isFitted?: true;
  }
  /** One set for all: the integers from -7 to 7, as two's complement in 4 bits. */
  | { readonly kind: "int4"; readonly bits: 4 };

/**
 * The 16 levels of a group-normalised Gaussian that lose least (Lloyd and Max), absolute values up to 1: the
 * default table of `asym_w4a8_int8`.
 */
export const DEFAULT_CODEBOOK: readonly number[] = Object.freeze([
  -0.980602,
  -0.794529,
  -0.638165,
  -0.500986,
  -0.377321,
  -0.263187,
  -0.155210,
  -0.050720,
  0.052541,
  0.156985,
  0.265284,
  0.379533,
  0.502636,
  0.638953,
  0.794876,
  0.980671,
]);

/** Returns the grid of `asym_w4a8_int8`: 16 levels of a table, or 63 evenly spaced ones. */
export function groupedLevels({ bits, groupCols, isFitted = false }: {
  readonly bits: 4 | 6;
  readonly groupCols: number;
  /** Whether the table of 4 bits is going to be fitted to the weight: {@link withTable}. */
  readonly isFitted?: boolean;
}): LevelScheme {
  const isTable = bits === 4;
  const table = isTable ? DEFAULT_CODEBOOK : Array.from({ length: 63 }, (_, i) => i - 31);
  const fitted = isTable && isFitted ? { isFitted } as const : {};
  return { kind: "scaled", bits, groupCols, table, firstCode: isTable ? 0 : 1, ...fitted };
}

/** Returns a grid of 16 levels with another table, ascending. */
export function withTable(scheme: LevelScheme, table: readonly number[]): LevelScheme {
  return { ...scheme, table } as LevelScheme;
}

/** Whether the table of a grid is fitted to its weight. */
export function isFitted(levels: LevelScheme | undefined): boolean {
  return levels?.kind === "scaled" && levels.isFitted === true;
}

/** Table in which kernels look levels up. */
export interface LevelTables {
  /** Columns of a row that share a set. */
  readonly groupCols: number;
  /** i8 `[sets, LEVEL_TABLE]`: see `LevelSets`. */
  readonly nearest: Int8Array;
  /** u8 `[256]`: see `LevelSearch`. */
  readonly first: Uint8Array;
  readonly candidates: number;
  /** How sets and levels are found at once; null: there is one set for all. */
  readonly rounding: LevelRounding | null;
  /** The code of every level of a set, u8 `[sets, 256]`, at level + 128. */
  readonly codes: Uint8Array;
}

/** Codes of positive finite E4M3 numbers, and 0. */
const E4M3_SETS = 127;

/** Groups of so many columns share the only set of a grid that has one. */
const ONE_SET_COLS = 16;

/** How many sets {@link levelTables} makes. */
function levelSetCount({ kind }: LevelScheme): number {
  return kind === "scaled" ? E4M3_SETS : 1;
}

/** Columns of a row that share a set. */
export function levelGroupCols(scheme: LevelScheme): number {
  return scheme.kind === "scaled" ? scheme.groupCols : ONE_SET_COLS;
}

/**
 * How many scales above the first one that reaches the largest value of a group the first candidate is. Higher ones
 * pay where steps become whole numbers, which lose nothing when levels are rounded to integers: the more so
 * the smaller steps are. In large groups, whose largest value stands alone, clipping it pays, the more so the
 * fewer levels there are. The squared error of the four candidates from there on is within 2.5 % of that of all sets in groups
 * of 16 at 4 bits, within 1 % otherwise (`tests/quant/level_grid_test.ts`).
 */
function firstAbove({ bits, groupCols }: LevelScheme & { readonly kind: "scaled" }): number {
  if (bits === 6) return groupCols > 128 ? 1 : 2;
  return groupCols > 128 ? -1 : groupCols > 32 ? 0 : 1;
}

/** Takes memory of so many bytes. */
export type TakeBytes = (count: number) => Uint8Array;

/**
 * Bytes of each of the tables of a scheme: levels by value, codes by level, first levels; and, if there are several
 * sets, those of the kernel that finds sets and levels at once.
 */
export function levelTableSizes(scheme: LevelScheme): readonly number[] {
  const sets = levelSetCount(scheme), plain = [sets * LEVEL_TABLE, sets * 256, 256];
  if (scheme.kind !== "scaled") return plain;
  return [
    ...plain,
    ...(scheme.bits === 4
      ? [sets * TABLE_BYTES, 128, sets * TABLE_ERROR_BYTES]
      : [sets * STEPS_BYTES]),
  ];
}

type Tables = [Uint8Array, Uint8Array, Uint8Array, Uint8Array?, Uint8Array?, Uint8Array?];

/** The bytes of the tables of schemes that were asked for last: 1 ms of work and 0.4 MB each, the same every time. */
const MADE = new Map<string, readonly Uint8Array[]>();

/** How many are kept: as many as there are without fitted tables, and some of those. */
const MADE_MAX = 8;

/** Returns the tables of `scheme`, in memory that kernels can read. */
export function levelTables(scheme: LevelScheme, take: TakeBytes): LevelTables {
  const key = JSON.stringify(scheme), made = MADE.get(key) ?? makeTables(scheme);
  // What was asked for last is the last one.
  MADE.delete(key);
  MADE.set(key, made);
  for (const old of MADE.keys()) {
    if (MADE.size <= MADE_MAX) break;
    MADE.delete(old);
  }
  const arrays = made.map((bytes) => {
    const own = take(bytes.length);
    own.set(bytes);
    return own;
  });
  const [bytes, codes, first, steps, firstByCode, errors] = arrays as Tables;
  const groupCols = levelGroupCols(scheme), nearest = signed(bytes);
  const tables = { groupCols, nearest, codes, first, candidates: 1, rounding: null };
  if (steps === undefined) return tables;
  const rounding: LevelRounding = firstByCode === undefined || errors === undefined
    ? { kind: "steps", groupCols, steps, first }
    : { kind: "table", groupCols, steps: signed(steps), first: firstByCode, errors };
  return { ...tables, candidates: LEVEL_CANDIDATES, rounding };
}

/** The same bytes with signs. */
function signed({ buffer, byteOffset, length }: Uint8Array): Int8Array {
  return new Int8Array(buffer, byteOffset, length);
}

/** Makes the bytes of {@link levelTableSizes}. */
function makeTables(scheme: LevelScheme): Uint8Array[] {
  const arrays = levelTableSizes(scheme).map((size) => new Uint8Array(size));
  const [nearest, codes, first, steps, firstByCode, errors] = arrays as Tables;
  for (let set = 0; set < levelSetCount(scheme); set++) {
    const levels = levelsOf(scheme, set);
    fillNearest(signed(nearest).subarray(set * LEVEL_TABLE, (set + 1) * LEVEL_TABLE), levels);
    for (const i of placesOf(scheme, levels.length)) {
      codes[set * 256 + levels[i]! + 128] = codeOf(scheme, i);
    }
  }
  fillFirst(first, scheme);
  if (scheme.kind !== "scaled" || steps === undefined) return arrays;
  if (firstByCode === undefined || errors === undefined) fillSteps(steps, scheme);
  else {
    fillTable(signed(steps), scheme);
    fillErrors(errors, signed(steps));
    // A code of c stands for magnitudes from c - 1/2 on.
    for (let c = 0; c < firstByCode.length; c++) firstByCode[c] = first[Math.max(0, c - 1)]!;
  }
  return arrays;
}

/** Where each of 15 numbers in their order is in a binary tree. */
const TREE: readonly number[] = [8, 4, 9, 2, 10, 5, 11, 1, 12, 6, 13, 3, 14, 7, 15];

/** Middles, levels and middles that are integers of every set: see `TableRounding`. */
function fillTable(steps: Int8Array, scheme: LevelScheme): void {
  for (let set = 0; set < levelSetCount(scheme); set++) {
    const levels = levelsOf(scheme, set), own = steps.subarray(set * TABLE_BYTES);
    own[0] = 0;
    for (let i = 0; i < 16; i++) {
      const twice = i === 15 ? 255 : levels[i]! + levels[i + 1]!;
      if (i < 15) own[TREE[i]!] = twice >> 1;
      own[16 + i] = levels[i]!;
      own[32 + i] = twice % 2 === 0 ? twice / 2 : -128;
    }
  }
}

/** Errors that sets leave in whole scales: see `TableRounding`. */
function fillErrors(bytes: Uint8Array, steps: Int8Array): void {
  const errors = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const ofSet = (set: number, c: number) => {
    const own = steps.subarray(set * TABLE_BYTES, (set + 1) * TABLE_BYTES);
    let at = 1;
    for (let k = 0; k < 4; k++) at = 2 * at + Number(c > own[at]!);
    return Math.min((c - own[at]!) ** 2, 4095);
  };
  for (let set = 0; set < E4M3_SETS; set++) {
    for (let c = -128; c < 128; c++) {
      for (let k = 0; k < LEVEL_CANDIDATES; k++) {
        errors[(set * 256 + c + 128) * LEVEL_CANDIDATES + k] = ofSet(Math.max(0, set - k), c);
      }
    }
  }
}

/** Middles, magnitudes and the step of every set: see `StepRounding`. */
function fillSteps(steps: Uint8Array, scheme: LevelScheme): void {
  for (let set = 0; set < E4M3_SETS; set++) {
    const positive = levelsOf(scheme, set).slice(-32);
    // Steps below 1 leave out no integer, so that it is a set of step 1 that ends sooner.
    const step = Math.max(1, f8e4m3ToF32(set)), top = positive.at(-1)!;
    const magnitudes = step === 1 ? positive.map((_, j) => Math.min(j, top)) : positive;
    const at = set * STEPS_BYTES, factor = Math.round(2 ** 14 / step);
    magnitudes.forEach((level, j) => {
      const next = magnitudes[j + 1];
      steps[at + j] = next === undefined || next === level ? 255 : level + next;
      steps[at + 32 + j] = level;
    });
    steps[at + 64] = factor & 255;
    steps[at + 65] = factor >> 8;
    steps[at + 66] = Number(step === 1 && top < 31);
  }
}

/** The levels of set `set`, ascending; several may be the same. */
export function levelsOf(scheme: LevelScheme, set: number): number[] {
  if (scheme.kind === "int4") return Array.from({ length: 15 }, (_, i) => i - 7);
  const scale = f8e4m3ToF32(set);
  return scheme.table.map((value) => {
    const level = roundHalfEven(Math.fround(Math.fround(value) * scale));
    return Math.max(-127, Math.min(127, level)) + 0;
  });
}

/** The places of levels, those last whose codes are taken of levels that are the same: the first; of 63 the innermost. */
function placesOf(scheme: LevelScheme, count: number): number[] {
  const places = Array.from({ length: count }, (_, i) => count - 1 - i);
  if (scheme.bits === 4) return places;
  return places.sort((a, b) => Math.abs(b - (count - 1) / 2) - Math.abs(a - (count - 1) / 2));
}

/** Of small numbers. */
function roundHalfEven(value: number): number {
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

function codeOf(scheme: LevelScheme, index: number): number {
  return scheme.kind === "int4" ? (index - 7) & 15 : scheme.firstCode + index;
}

/** Entry h + 255: what is nearest to values in (h - 1, h] / 2, the lower of two. */
function fillNearest(out: Int8Array, levels: readonly number[]): void {
  let at = 0;
  levels.forEach((level, i) => {
    const next = levels[i + 1];
    // Twice the middle between two levels: up to there it is the lower one.
    const end = next === undefined ? out.length : Math.min(out.length, level + next + 256);
    if (end > at) out.fill(level, at, end);
    at = Math.max(at, end);
  });
}

/** The first set whose largest level reaches the largest magnitude of a group, and one more. */
function fillFirst(first: Uint8Array, scheme: LevelScheme): void {
  if (scheme.kind === "int4") return void first.fill(0);
  const top = Math.max(...scheme.table.map(Math.abs)), above = firstAbove(scheme);
  let set = 1;
  for (let i = 0; i < first.length; i++) {
    while (set < E4M3_SETS - 1 && f8e4m3ToF32(set) * top < i + 1) set++;
    first[i] = Math.max(1, Math.min(E4M3_SETS - 1, set + above));
  }
}
