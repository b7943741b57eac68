/** The report of learned rounding on a layer, for people and programs. Plain data. */

import type { LearnedOptimizer } from "./options.ts";
import type { SearchResult, StopReason } from "./search.ts";

/** Report on one layer. */
export interface LearnedReport {
  /** The optimizer that was used. */
  readonly optimizer: LearnedOptimizer;
  /** `projected`: as the leading singular directions see it; `output`: of the outputs. */
  readonly loss: "projected" | "output";
  /** Directions that count, left and right; null if the loss is that of the outputs. */
  readonly directions: readonly [number, number] | null;
  /** Most steps that a part of the layer took. */
  readonly steps: number;
  /** Why it stopped. */
  readonly stop: StopReason;
  /** The loss relative to that of rounding to nearest with the same scales: 1 at most; null: it was 0. */
  readonly lossRatio: number | null;
  /** How far the SQNR of the weights fell below that of rounding to nearest with the same scales, in dB. */
  readonly errorDb: number;
  /** Share of the codes that are not the nearest. */
  readonly moved: number;
  /** After every step: the loss of the rounded codes, relative to rounding to nearest, and the rate. */
  readonly trajectory: { readonly loss: readonly number[]; readonly lr: readonly number[] };
}

/** Significant digits of a trajectory. */
const DIGITS = 6;

/**
 * Returns the report of a layer whose parts were searched one by one: losses are added up, a part that
 * has ended keeps its last.
 *
 * @param parts in the order of the layer.
 * @param elements number of weights of the layer.
 */
export function reportOf(
  parts: readonly SearchResult[],
  { optimizer, loss, directions, elements }:
    & Pick<LearnedReport, "optimizer" | "loss" | "directions">
    & {
      elements: number;
    },
): LearnedReport {
  const sum = (of: (part: SearchResult) => number) =>
    parts.reduce((all, part) => all + of(part), 0);
  const longest = parts.reduce((most, part) => part.steps > most.steps ? part : most);
  const before = sum((part) => part.lossBefore), errorBefore = sum((part) => part.errorBefore);
  const relative = (loss: number) => rounded(before > 0 ? Math.sqrt(loss / before) : 1);
  const at = (index: number) =>
    sum(({ losses, lossBefore }) => losses[Math.min(index, losses.length - 1)] ?? lossBefore);
  return {
    optimizer,
    loss,
    directions,
    steps: longest.steps,
    stop: longest.stop,
    lossRatio: before > 0 ? relative(sum((part) => part.lossAfter)) : null,
    errorDb: errorBefore > 0
      ? rounded(10 * Math.log10(sum((part) => part.errorAfter) / errorBefore))
      : 0,
    moved: rounded(sum((part) => part.moved) / elements),
    trajectory: {
      loss: longest.losses.map((_, index) => relative(at(index))),
      lr: longest.rates.map(rounded),
    },
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

/** Returns one line. */
export function describeReport(report: LearnedReport): string {
  const { optimizer, loss, directions, steps, stop, lossRatio, errorDb, moved } = report;
  const what = loss === "output" ? "output error" : `error in ${directions![0]} directions`;
  if (lossRatio === null) return `${optimizer}: rounding to nearest leaves no ${what}`;
  return `${optimizer}: ${what} x${lossRatio.toFixed(3)}, weight error +${
    errorDb.toFixed(2)
  } dB, ` +
    `${(100 * moved).toFixed(1)}% of the codes moved, ${steps} steps (${stop})`;
}
