/**
 * The numbers that chunks report, by kind of task: one list, from which places in a slot, lengths, and the
 * folding of chunks and of layers follow. And the measures of a layer that are made of them: JSON has all of
 * them by these names, `cli/statistic_columns.ts` has their columns in tables and pages.
 */

import { type STATS, STATS_LENGTH } from "../backend/backend.ts";
import type { Task } from "./tasks.ts";

/**
 * How numbers of several chunks become one: added; the largest; or the smallest of those that are not 0, for
 * places that are counted from 1.
 */
type Fold = "sum" | "max" | "first";

/** Numbers of a slot, in this order. */
type SlotLayout = Readonly<Record<string, Fold>>;

/** Sums of what the kernels measure, in their order: see STATS. */
const ERROR_SUMS = {
  squaredError: "sum",
  squaredSignal: "sum",
  squaredDequantized: "sum",
  dot: "sum",
  maxAbsError: "max",
  count: "sum",
} as const satisfies Record<keyof typeof STATS, Fold>;

/** Values that cannot be quantized or cast, and the flat index of the first plus 1. */
const NON_FINITE = { nonFinite: "sum", firstNonFinite: "first" } as const;

const LAYOUTS = {
  /** Begins as `compare` does, so that both kinds of layers have the same measures. */
  quantize: {
    ...ERROR_SUMS,
    ...NON_FINITE,
    /** Rows that were rounded to nearest, as compensating their errors made nothing better. */
    rowsToNearest: "sum",
  },
  compare: ERROR_SUMS,
  cast: NON_FINITE,
  scan: NON_FINITE,
  compareBytes: {
    /** Bytes that are not the same. */
    different: "sum",
  },
  /** Sums of squares. */
  measure: {
    /** Of the outputs of the source. */
    signal: "sum",
    /** Of what is wrong with them, inputs as they are. */
    errorA16: "sum",
    /** The same, inputs quantized per row. */
    errorA8: "sum",
  },
  correctBias: {
    /** Sum of the squares of what was added. */
    change: "sum",
    /** Sum of the squares of the bias before. */
    before: "sum",
    /** The factor of the mean, the same in every chunk. */
    factor: "max",
  },
  copy: {},
  columnMax: {},
  inputScale: {},
  encode: {},
} as const satisfies Readonly<Record<Task["kind"], SlotLayout>>;

type Kind = Task["kind"];
type NameIn<K extends Kind> = keyof (typeof LAYOUTS)[K];

/** f64 numbers that every chunk reports: as many as the longest list has. */
export const SLOT_LENGTH = Math.max(...Object.values(LAYOUTS).map((l) => Object.keys(l).length));

/** Places of the numbers in a slot, by kind of task and name. */
export const SLOT = Object.freeze(Object.fromEntries(
  Object.entries(LAYOUTS).map(([kind, layout]) => [
    kind,
    Object.freeze(Object.fromEntries(Object.keys(layout).map((name, place) => [name, place]))),
  ]),
)) as { readonly [K in Kind]: { readonly [N in NameIn<K>]: number } };

/** The numbers of a task or of several layers: f64, as many as the list of its kind has. */
export type TaskNumbers = Float64Array;

/** The numbers of a task of kind `K` by their names. */
type NumbersOf<K extends Kind> = { readonly [N in NameIn<K>]: number };

/** Returns the part of the numbers of a quantized or compared layer that the kernels add to: see STATS. */
export function errorSums(numbers: TaskNumbers): Float64Array {
  return numbers.subarray(0, STATS_LENGTH);
}

/** Returns `numbers` of a task of `kind` by their names. */
export function numbersOf<K extends Kind>(kind: K, numbers: TaskNumbers): NumbersOf<K> {
  const places: readonly [string, number][] = Object.entries(SLOT[kind]);
  const named = places.flatMap(([name, place]) =>
    place < numbers.length ? [[name, numbers[place]!]] : []
  );
  return Object.fromEntries(named);
}

/** Returns how many values of a task cannot be used, and the flat index of the first; -1: there is none. */
export function nonFiniteOf(
  kind: Kind,
  numbers: TaskNumbers,
): { readonly count: number; readonly first: number } {
  const place = SLOT[kind];
  if (!("nonFinite" in place)) return { count: 0, first: -1 };
  return { count: numbers[place.nonFinite]!, first: numbers[place.firstNonFinite]! - 1 };
}

/** Reports `count` values that cannot be used, the first at flat index `first`, in the slot of a chunk. */
export function setNonFinite(
  kind: "quantize" | "cast" | "scan",
  slot: TaskNumbers,
  { count, first }: { readonly count: number; readonly first: number },
): void {
  slot[SLOT[kind].nonFinite] = count;
  slot[SLOT[kind].firstNonFinite] = first + 1;
}

/** Folds the numbers of chunks or of layers, in their order. */
export function foldNumbers(kind: Kind, parts: Iterable<TaskNumbers>): TaskNumbers {
  const folds = (Object.values(LAYOUTS[kind]) as Fold[]).map((fold) => FOLDS[fold]);
  const whole = new Float64Array(folds.length);
  for (const part of parts) {
    folds.forEach((fold, place) => whole[place] = fold(whole[place]!, part[place]!));
  }
  return whole;
}

/** Two numbers become one; 0 is what there is before the first. */
const FOLDS: Readonly<Record<Fold, (before: number, value: number) => number>> = {
  sum: (before, value) => before + value,
  max: Math.max,
  first: (before, value) => before === 0 || value === 0 ? before + value : Math.min(before, value),
};

/** Returns the slots of chunks that lie one behind the other. */
export function* slotsIn(numbers: Float64Array): Generator<TaskNumbers> {
  for (let at = 0; at < numbers.length; at += SLOT_LENGTH) {
    yield numbers.subarray(at, at + SLOT_LENGTH);
  }
}

/** How far a stored weight is from its source. All fields survive JSON: no NaN, no infinity. */
export interface LayerErrors {
  /** ‖W − Ŵ‖ / ‖W‖; 0 if both are zero, `Number.MAX_VALUE` if it has no bound. */
  readonly relativeError: number;
  /** 10 log10(‖W‖² / ‖W − Ŵ‖²); null if there is no error. */
  readonly sqnrDb: number | null;
  /** Of W and Ŵ as vectors; 1 if there is no error. */
  readonly cosine: number;
  /** The largest |w − ŵ|. */
  readonly maxAbsError: number;
  /** ‖W − Ŵ‖² / elements. */
  readonly mse: number;
}

/** Sums that measures are made of; a compared layer has no more than the error sums. */
type LayerSums = NumbersOf<"compare"> & Partial<NumbersOf<"quantize">>;

/** Every measure of {@link LayerErrors}, from the numbers of a layer. */
const MEASURES: { readonly [M in keyof LayerErrors]: (sums: LayerSums) => LayerErrors[M] } = {
  relativeError: ({ squaredError, squaredSignal }) =>
    squaredError === 0 ? 0 : bounded(Math.sqrt(squaredError / squaredSignal)),
  sqnrDb: ({ squaredError, squaredSignal }) =>
    squaredError === 0 ? null : decibels(squaredSignal / squaredError),
  cosine: ({ squaredError, squaredSignal, squaredDequantized, dot }) => {
    const norm = Math.sqrt(squaredSignal) * Math.sqrt(squaredDequantized);
    return norm === 0 ? (squaredError === 0 ? 1 : 0) : bounded(dot / norm, 0);
  },
  maxAbsError: ({ maxAbsError }) => bounded(maxAbsError),
  mse: ({ squaredError, count }) => count === 0 ? 0 : bounded(squaredError / count),
};

/** Names of all measures. */
export const MEASURE_NAMES = Object.keys(MEASURES) as readonly (keyof LayerErrors)[];

/**
 * Returns the measures of a layer, or of several.
 *
 * @param numbers of a quantized or compared layer; f64 `[STATS_LENGTH]` is enough, see STATS.
 */
export function layerErrors(numbers: TaskNumbers): LayerErrors {
  const sums: LayerSums = numbersOf("quantize", numbers);
  return Object.fromEntries(MEASURE_NAMES.map((name) => [name, MEASURES[name](sums)])) as {
    [M in keyof LayerErrors]: LayerErrors[M];
  };
}

/** Returns the measures of all layers taken together: sums are added, not ratios; null: there are no layers. */
export function overallErrors(
  layers: readonly { readonly stats: TaskNumbers }[],
): LayerErrors | null {
  if (layers.length === 0) return null;
  const numbers = layers.map(({ stats }) => stats);
  const isQuantized = numbers.every(({ length }) => length === Object.keys(SLOT.quantize).length);
  return layerErrors(foldNumbers(isQuantized ? "quantize" : "compare", numbers));
}

/** Returns the layers by falling relative error. */
export function worstLayersFirst<T extends { readonly errors: LayerErrors }>(
  layers: readonly T[],
): T[] {
  return [...layers].sort((a, b) => b.errors.relativeError - a.errors.relativeError);
}

/** Stands for a ratio without bound: a NaN or infinite weight, or an error if the source is zero. */
const UNBOUNDED = Number.MAX_VALUE;

/** The SQNR of an unbounded error, in dB. */
const WORST_SQNR_DB = -6000;

function bounded(value: number, otherwise = UNBOUNDED): number {
  return Number.isFinite(value) ? value : otherwise;
}

function decibels(ratio: number): number {
  return Math.max(WORST_SQNR_DB, bounded(10 * Math.log10(ratio), WORST_SQNR_DB));
}
