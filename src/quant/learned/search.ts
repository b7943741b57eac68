/**
 * The loop around both ways of moving codes: rates, limits, stops, and the best codes so far. What counts
 * is always the loss of the rounded codes, never that of numbers in between.
 */

import { type Layer, type Objective, squaredNorm } from "./layer.ts";
import { INT8_SYMMETRIC_MAX } from "../scheme.ts";
import type { LearnedOptions } from "./options.ts";
import { createSchedule } from "./schedule.ts";

/** One way of moving codes. */
export interface Stepper {
  /** Steps in which every code has had its turn, or enough of them to decide whether it continues. */
  readonly round: number;
  /**
   * Moves codes.
   *
   * @param use the squared error of the weights as a share of what is allowed.
   * @returns what the squared error of the weights changed by.
   */
  step(index: number, lr: number, use: number): number;
}

/** Why a search ended. */
export type StopReason =
  /** `num_iter` steps were done. */
  | "iterations"
  | "loss"
  | "lr"
  | "stall"
  /** Several rounds gained next to nothing. */
  | "converged"
  /** The loss of rounding to nearest is 0. */
  | "exact";

/** Result of a search. Losses are squared. */
export interface SearchResult {
  readonly stop: StopReason;
  readonly steps: number;
  readonly lossBefore: number;
  readonly lossAfter: number;
  readonly errorBefore: number;
  readonly errorAfter: number;
  /** Codes that are not where rounding to nearest put them. */
  readonly moved: number;
  /** Of the rounded codes after every step. */
  readonly losses: readonly number[];
  /** Of every step. */
  readonly rates: readonly number[];
}

/** A search has converged if this many rounds gain less than this share of the loss. */
const IDLE_ROUNDS = 3, GAIN_MIN = 0.06;

/**
 * Moves the codes of `layer` to the best ones that are found.
 *
 * The result may be no better than rounding to nearest, `lossAfter` then being `lossBefore`, and the codes
 * those on entry. It is never worse, nor beyond the limit on the error.
 *
 * @param best i8 `[rows, cols]`, contents used up.
 */
export function search(
  layer: Layer,
  objective: Objective,
  stepper: Stepper,
  { options, best, aspect, reference }: {
    options: LearnedOptions;
    best: Int8Array;
    aspect: number;
    /** The squared error that the limit is above; null: that of the codes on entry. */
    reference: number | null;
  },
): SearchResult {
  const { codes, errors } = layer;
  const lossBefore = objective.measure(), errorBefore = squaredNorm(errors.data);
  const schedule = createSchedule(options.schedule, options.lr, aspect);
  const limit = (reference ?? errorBefore) * Math.fround(10 ** (options.errorLimitDb / 10));
  const losses: number[] = [], rates: number[] = [], rounds: number[] = [];
  const relative = (loss: number) => Math.sqrt(loss / lossBefore);
  best.set(codes);
  let error = errorBefore, bestLoss = lossBefore, failures = 0;
  let stop: StopReason = lossBefore > 0 ? "iterations" : "exact";
  for (let index = 0; index < options.iterations && stop === "iterations"; index++) {
    if (schedule.lr < options.stopLr) {
      stop = "lr";
      break;
    }
    rates.push(schedule.lr);
    error += stepper.step(index, schedule.lr, limit > 0 ? error / limit : 1);
    const loss = objective.loss(), isAllowed = error <= limit;
    const improved = isAllowed && loss < bestLoss;
    losses.push(loss);
    if (improved) {
      bestLoss = loss;
      best.set(codes);
    }
    failures = improved ? 0 : failures + 1;
    schedule.step(isAllowed ? relative(loss) : Infinity, improved);
    if (relative(bestLoss) < options.stopLoss) stop = "loss";
    else if (failures >= options.stopStall) stop = "stall";
    else if ((index + 1) % stepper.round === 0) {
      rounds.push(relative(bestLoss));
      const before = rounds.at(-1 - IDLE_ROUNDS);
      if (before !== undefined && rounds.at(-1)! > (1 - GAIN_MIN) * before) stop = "converged";
    }
  }
  const moved = takeBest(layer, best);
  const found = losses.length === 0 ? lossBefore : objective.measure();
  const errorAfter = squaredNorm(errors.data);
  const shared = { stop, steps: losses.length, lossBefore, errorBefore, losses, rates };
  if (found < lossBefore && errorAfter <= limit) {
    return { ...shared, lossAfter: found, errorAfter, moved };
  }
  takeNearest(layer);
  return { ...shared, lossAfter: lossBefore, errorAfter: errorBefore, moved: 0 };
}

/** Makes the best codes the layer's. Returns how many are not the nearest to their weights. */
function takeBest({ codes, errors, scales, columnGroups, grid }: Layer, best: Int8Array): number {
  const { rows, cols, groupRows, groupCols } = grid, across = cols / groupCols;
  let moved = 0;
  for (let r = 0; r < rows; r++) {
    const band = Math.floor(r / groupRows) * across;
    for (let j = 0, at = r * cols; j < cols; j++, at++) {
      const scale = scales[band + columnGroups[j]!]!;
      const change = best[at]! - codes[at]!;
      if (change !== 0) {
        errors.data[at] = errors.data[at]! + change * scale;
        codes[at] = best[at]!;
      }
      if (isAside(errors.data[at]!, scale, codes[at]!)) moved++;
    }
  }
  return moved;
}

/** Moves the codes that are farther than half a step from their weights. */
function takeNearest({ codes, errors, scales, columnGroups, grid }: Layer): void {
  const { rows, cols, groupRows, groupCols } = grid, across = cols / groupCols;
  for (let r = 0; r < rows; r++) {
    const band = Math.floor(r / groupRows) * across;
    for (let j = 0, at = r * cols; j < cols; j++, at++) {
      const scale = scales[band + columnGroups[j]!]!, error = errors.data[at]!;
      if (!isAside(error, scale, codes[at]!)) continue;
      codes[at] = codes[at]! + (error > 0 ? -1 : 1);
      errors.data[at] = error + (error > 0 ? -scale : scale);
    }
  }
}

/** Whether a code is not the nearest to its weight: those at the ends of the grid may be farther away. */
function isAside(error: number, scale: number, code: number): boolean {
  const isClipped = error < 0 ? code === INT8_SYMMETRIC_MAX : code === -INT8_SYMMETRIC_MAX;
  return Math.abs(error) > 0.5 * scale && !isClipped;
}
