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

import { type CodeLevelSearch, LEVEL_STEP_BYTES, LEVEL_TABLE } from "../backend/backend.ts";
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
  }
  /** One set for all: the integers from -7 to 7, as two's complement in 4 bits. */
  | { readonly kind: "int4"; readonly bits: 4 };

/**
 * The 16 levels of a group-normalised Gaussian that lose least (Lloyd and Max), absolute values up to 1: the
 * default table of `asym_w4a8_int8`.
 */
const DEFAULT_CODEBOOK: readonly number[] = Object.freeze([
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
export function groupedLevels({ bits, groupCols, codebook = DEFAULT_CODEBOOK }: {
  readonly bits: 4 | 6;
  readonly groupCols: number;
  readonly codebook?: readonly number[];
}): LevelScheme {
  const isTable = bits === 4;
  const table = isTable ? codebook : Array.from({ length: 63 }, (_, i) => i - 31);
  return { kind: "scaled", bits, groupCols, table, firstCode: isTable ? 0 : 1 };
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
  /** How sets are chosen by int8 codes, where they have at most 16 levels; null: by values. */
  readonly byCodes: CodeLevelSearch | null;
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

/** Largest level over largest magnitude of a group, below which no scale is tried, by bits. */
const LEAST_REACH = { 4: 0.71, 6: 0.72 } as const;

/**
 * How many scales are tried above the first one that reaches the largest value: steps that are whole numbers
 * lose nothing when levels are rounded to integers, which counts if steps are small.
 */
const ABOVE = { 4: 1, 6: 2 } as const;

/** Takes memory of so many bytes. */
export type TakeBytes = (count: number) => Uint8Array;

/**
 * Bytes of each of the tables of a scheme: levels by value, codes by level, first levels; and for sets of at most 16
 * levels those to choose them by codes.
 */
export function levelTableSizes(scheme: LevelScheme): readonly number[] {
  const sets = levelSetCount(scheme);
  return [
    ...[sets * LEVEL_TABLE, sets * 256, 256],
    ...(isChosenByCodes(scheme) ? [sets * LEVEL_STEP_BYTES, 128] : []),
  ];
}

function isChosenByCodes(scheme: LevelScheme): boolean {
  return scheme.kind === "scaled" && scheme.bits === 4;
}

type Tables = [Uint8Array, Uint8Array, Uint8Array, Uint8Array | undefined, Uint8Array | undefined];

/** Returns the tables of `scheme`, in memory that kernels can read. */
export function levelTables(scheme: LevelScheme, take: TakeBytes): LevelTables {
  const sets = levelSetCount(scheme);
  const [bytes, codes, first, steps, firstByCode] = levelTableSizes(scheme).map(take) as Tables;
  const nearest = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  codes.fill(0);
  for (let set = 0; set < sets; set++) {
    const levels = levelsOf(scheme, set);
    fillNearest(nearest.subarray(set * LEVEL_TABLE, (set + 1) * LEVEL_TABLE), levels);
    levels.forEach((level, i) => codes[set * 256 + level + 128] = codeOf(scheme, i));
  }
  fillFirst(first, scheme);
  const groupCols = levelGroupCols(scheme), candidates = candidatesOf(scheme);
  const byCodes = steps === undefined || firstByCode === undefined
    ? null
    : { groupCols, candidates, ...codeSteps(scheme, { bytes: steps, own: firstByCode, first }) };
  return { groupCols, nearest, codes, first, candidates, byCodes };
}

/** Middles and levels of every set, and where candidates begin. */
function codeSteps(
  scheme: LevelScheme,
  { bytes, own, first }: Record<"bytes" | "own" | "first", Uint8Array>,
): Pick<CodeLevelSearch, "steps" | "first"> {
  const steps = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let set = 0; set < levelSetCount(scheme); set++) {
    const levels = levelsOf(scheme, set), at = set * LEVEL_STEP_BYTES;
    for (let i = 0; i < 15; i++) steps[at + i] = Math.floor((levels[i]! + levels[i + 1]!) / 2);
    steps[at + 15] = 127;
    steps.set(levels, at + 16);
  }
  // A code of c stands for magnitudes from c - 1/2 on.
  for (let code = 0; code < own.length; code++) own[code] = first[Math.max(0, code - 1)]!;
  return { steps, first: own };
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
  const top = Math.max(...scheme.table.map(Math.abs));
  let set = 1;
  for (let i = 0; i < first.length; i++) {
    while (set < E4M3_SETS - 1 && f8e4m3ToF32(set) * top < i + 1) set++;
    first[i] = Math.min(E4M3_SETS - 1, set + ABOVE[scheme.bits]);
  }
}

/** So many that the last one reaches {@link LEAST_REACH} of a group: steps of E4M3 are 6 to 12 %. */
function candidatesOf(scheme: LevelScheme): number {
  if (scheme.kind === "int4") return 1;
  return 1 + ABOVE[scheme.bits] +
    Math.ceil(Math.log(LEAST_REACH[scheme.bits]) / Math.log(1 - 1 / 12));
}
