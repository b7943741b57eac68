/**
 * Learned rounding: moves codes off the nearest grid point if that lowers a loss that matters more than
 * the plain error of the weights. Every code stays on one of the two grid points around its weight, the
 * scales stay, and the error of the weights stays within a limit.
 *
 * Without data the loss is ‖Uᵀ(Ŵ - W)V‖, U and V the layer's leading singular directions
 * ({@link roundProjected}); with second moments H of its inputs it is the error of its outputs
 * ({@link roundForOutputs}). The result is never worse in its loss than rounding to nearest.
 *
 * Memory for N x K weights, K directions k: the weights (4 N K bytes), which become errors; codes and best
 * codes (2 N K); the factors, about 8 k (N + K) bytes, 16 while they are found; for `adamw` and `radam` one
 * more float copy. {@link planProjected} and {@link planForOutputs} count them.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Grid } from "../../backend/backend.ts";
import type { Random } from "../../core/rng.ts";
import { type LinalgContext, withScratch } from "../../linalg/context.ts";
import { matrix } from "../../linalg/matrix.ts";
import { planSubspaces, topSubspaces } from "../../linalg/subspace.ts";
import { descent, panelWidth } from "./descent.ts";
import { gradientSteps, planGradientStep, planGradientSteps } from "./gradient.ts";
import {
  fillColumnGroups,
  type GradientObjective,
  type Layer,
  type LossPlan,
  type Objective,
  toErrors,
  unitOf,
} from "./layer.ts";
import { directionCount, type LearnedOptimizer, type LearnedOptions } from "./options.ts";
import { type MomentBlocks, OutputLoss, outputUnit, planOutputLoss } from "./output.ts";
import { planProjectedLoss, ProjectedLoss } from "./projected.ts";
import { type DescentDevice, planRemoteLoss, RemoteLoss } from "./remote.ts";
import { search, type SearchResult, type Stepper } from "./search.ts";

/** Refinements of the randomised decomposition: four at the documented number of steps. */
const STEPS_PER_REFINEMENT = 250, REFINEMENTS_MAX = 4;

export type { MomentBlocks } from "./output.ts";
export type { DescentDevice } from "./remote.ts";
export type { SearchResult, StopReason } from "./search.ts";

/** A layer, or some of its rows, rounded to nearest. */
export interface LearnedProblem {
  readonly optimizer: LearnedOptimizer;
  readonly options: LearnedOptions;
  readonly grid: Grid;
  /** f32 `[rows, cols]`, row-major, in the space of the codes, finite. Used up. */
  readonly weights: Float32Array;
  /** f32, one per group. Used up. */
  readonly scales: Float32Array;
  /**
   * The squared error of the weights that the limit is above, if it is not that of `codes`: of rounding
   * to nearest with other scales.
   */
  readonly reference?: number;
  /** In: those of rounding to nearest. Out: the learned ones. i8 `[rows, cols]`. */
  readonly codes: Int8Array;
}

/** Result of a layer without data. */
export interface ProjectedResult extends SearchResult {
  /** Directions on the left and on the right that were found. */
  readonly directions: readonly [number, number];
}

/**
 * Rounds a whole layer by its leading singular directions. One thread.
 *
 * @param random where the decomposition takes its random numbers from.
 */
export function roundProjected(
  context: LinalgContext,
  problem: LearnedProblem,
  random: Random,
): ProjectedResult {
  const { options, grid } = problem;
  return withScratch(context, () => {
    const count = directionCount(options, grid.rows, grid.cols);
    const w = matrix(problem.weights, grid.rows, grid.cols);
    const subspaces = topSubspaces(context, w, {
      count,
      full: options.fullMatrix,
      refinements: refinementsOf(options),
      random,
    });
    const unit = unitOf(problem.scales), layer = layerOf(context, problem, unit);
    const objective = new ProjectedLoss(context, layer, subspaces);
    const stepper = stepperOf(context, problem, layer, objective);
    const result = run(context, problem, { layer, objective, stepper, unit });
    return { ...result, directions: [subspaces.left.rows, subspaces.right.rows] };
  });
}

/**
 * Rounds some rows of a layer for its inputs. One thread.
 */
export function roundForOutputs(
  context: LinalgContext,
  problem: LearnedProblem,
  moments: MomentBlocks,
): SearchResult {
  return withScratch(context, () => {
    const unit = unitOf(problem.scales), layer = layerOf(context, problem, unit);
    const objective = new OutputLoss(context, layer, moments, problem.optimizer !== "original");
    const stepper = stepperOf(context, problem, layer, objective);
    return run(context, problem, { layer, objective, stepper, unit });
  });
}

/**
 * The same by `original`, codes being moved by a device that knows the moments.
 *
 * @param open told the rows, with scales in the unit that errors are in.
 * @throws DeviceError if the device fails; weights, scales and codes are unspecified then.
 */
export function roundForOutputsOn(
  open: (layer: Layer) => DescentDevice,
  context: LinalgContext,
  problem: Omit<LearnedProblem, "optimizer">,
  moments: MomentBlocks,
): SearchResult {
  return withScratch(context, () => {
    const unit = unitOf(problem.scales), layer = layerOf(context, problem, unit);
    const width = panelWidth(problem.grid.cols);
    const device = open(layer);
    const objective = new RemoteLoss(context, layer, { device, unit: outputUnit(moments), width });
    return run(context, problem, { layer, objective, stepper: descent(layer, objective), unit });
  });
}

/** More iterations also refine the decomposition. */
function refinementsOf({ iterations }: LearnedOptions): number {
  return Math.min(REFINEMENTS_MAX, Math.floor(iterations / STEPS_PER_REFINEMENT));
}

function layerOf(
  context: LinalgContext,
  problem: Omit<LearnedProblem, "optimizer">,
  unit: number,
): Layer {
  const { grid, codes, weights, scales } = problem;
  const columnGroups = fillColumnGroups(context.memory.i32(grid.cols), grid);
  const errors = toErrors(weights, codes, scales, { grid, unit });
  return { grid, codes, errors, scales, columnGroups };
}

function stepperOf(
  context: LinalgContext,
  { optimizer }: LearnedProblem,
  layer: Layer,
  objective: GradientObjective,
): Stepper {
  return optimizer === "original"
    ? descent(layer, objective)
    : gradientSteps(context, layer, objective, optimizer);
}

function run(
  context: LinalgContext,
  problem: Omit<LearnedProblem, "optimizer">,
  { layer, objective, stepper, unit }: {
    layer: Layer;
    objective: Objective;
    stepper: Stepper;
    unit: number;
  },
): SearchResult {
  const { options, grid, codes } = problem;
  const best = context.memory.i8(codes.length);
  const aspect = Math.max(grid.rows, grid.cols) / Math.min(grid.rows, grid.cols);
  const reference = problem.reference === undefined ? null : problem.reference * unit * unit;
  const found = search(layer, objective, stepper, { options, best, aspect, reference });
  const plain = (value: number) => value / unit / unit;
  return {
    ...found,
    lossBefore: plain(found.lossBefore),
    lossAfter: plain(found.lossAfter),
    errorBefore: plain(found.errorBefore),
    errorAfter: plain(found.errorAfter),
    losses: found.losses.map(plain),
  };
}

/** Counts what {@link roundProjected} takes besides what it is given. */
export function planProjected(
  memory: CountedMemory,
  grid: Pick<Grid, "rows" | "cols">,
  { optimizer, options }: Pick<LearnedProblem, "optimizer" | "options">,
): void {
  const { rows, cols } = grid, count = directionCount(options, rows, cols);
  memory.within(() => {
    const refinements = refinementsOf(options);
    planSubspaces(memory, rows, cols, { count, full: options.fullMatrix, refinements });
    planSearch(memory, grid, optimizer, () => planProjectedLoss(memory, grid, count));
  });
}

/**
 * Counts what {@link roundForOutputs} takes besides what it is given.
 *
 * @param onDevice counts what a device takes of this memory, for {@link roundForOutputsOn}; null: there is none.
 */
export function planForOutputs(
  memory: CountedMemory,
  grid: Pick<Grid, "rows" | "cols">,
  optimizer: LearnedOptimizer,
  onDevice: (() => void) | null,
): void {
  const gradients = optimizer !== "original";
  memory.within(() =>
    planSearch(memory, grid, optimizer, () => planOutputLoss(memory, grid, gradients))
  );
  if (onDevice === null) return;
  memory.within(() =>
    planSearch(memory, grid, "original", () => {
      onDevice();
      return planRemoteLoss(memory, grid.rows, panelWidth(grid.cols));
    })
  );
}

/** @param planLoss counts what the loss keeps. */
function planSearch(
  memory: CountedMemory,
  { rows, cols }: Pick<Grid, "rows" | "cols">,
  optimizer: LearnedOptimizer,
  planLoss: () => LossPlan,
): void {
  memory.i32(cols); // of the layer
  const loss = planLoss(), gradients = optimizer !== "original";
  if (gradients) planGradientSteps(memory, rows, cols);
  memory.i8(rows * cols); // the best codes
  loss.step();
  if (gradients) planGradientStep(memory, [rows, cols], loss);
}
