/**
 * Holds error compensation to its gain on inputs that it was not fitted to: a band of rows whose outputs for
 * the held-out rows of the calibration data are not clearly better than those of rounding to nearest is
 * rounded to nearest. On the rows it was fitted to, compensation always looks better than it is, the more so
 * the fewer they are.
 *
 * Cost: 2 products of the errors of at most {@link SAMPLED_ROWS} rows of a band with at most 64 inputs. Shared
 * memory: the inputs, f32 `[K, inputs]`, in the space of the codes.
 */

import type { Compensation, HeldOutRows } from "../../calibration/compensation.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Rect } from "../chunk_grid.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { ChunkContext, TeamContext } from "./chunk_context.ts";
import { compareRows, type GuardedRows, planGuard, roundToNearest } from "./guard_rows.ts";
import { refuseNonFinite } from "./load_hessian.ts";
import { loadInputRow, planInputRow } from "./load_inputs.ts";

/** Rows of a band that are looked at, spread evenly. */
const SAMPLED_ROWS = 64;

/**
 * The largest share of the squared output error of rounding to nearest that is a clear gain. Some tens of
 * inputs show a share with a deviation of a few percent.
 */
const CLEAR_GAIN = 0.95;

/** Counts what {@link loadHeldOut} leaves in the memory of the team, and takes on its way. */
export function planHeldOut({ own, shared }: PlannedMemory, compensation: Compensation): void {
  const { cols, heldOut } = compensation;
  if (heldOut === null) return;
  shared.f32(cols * heldOut.rows);
  own.within(() => {
    own.f32(cols);
    planInputRow(own, inputsOf(compensation, heldOut), cols);
  });
}

/** Place of the held-out rows. */
function inputsOf(compensation: Compensation, { data }: HeldOutRows) {
  if (data === undefined) return compensation;
  const { factors } = compensation.data;
  return {
    statistic: "activations" as const,
    data: factors === undefined ? data : { ...data, factors },
  };
}

/** Counts what {@link guardByHeldOut} takes for rows. */
export function planHeldOutGuard(
  memory: CountedMemory,
  { heldOut }: Compensation,
  { rows, cols }: Pick<Rect, "rows" | "cols">,
): void {
  if (heldOut === null) return;
  const sample = { rows: sampleOf(rows).length, cols };
  planGuard(memory, sample, (height) => memory.within(() => memory.f32(height * heldOut.rows)));
}

/** The rows of a band that are looked at. */
function sampleOf(rows: number): number[] {
  const stride = Math.ceil(rows / SAMPLED_ROWS);
  return Array.from({ length: Math.ceil(rows / stride) }, (_, i) => i * stride);
}

/**
 * Reads the held-out inputs of a layer, f32 `[K, inputs]`, rotated as its codes are; null if there are none.
 * Every worker of the team calls it. Ends in a barrier.
 *
 * @throws FormatError if an input is NaN or infinite.
 */
export function loadHeldOut(
  team: TeamContext,
  { convrotGroupSize }: QuantizeTask,
  compensation: Compensation,
): MatrixF32 | null {
  const { heldOut, cols } = compensation;
  if (heldOut === null) return null;
  const { linalg, shared, scratch, kernels } = team;
  const inputs = shared.f32(cols * heldOut.rows);
  const mark = scratch.mark();
  const row = scratch.f32(cols);
  const own = shareOf(linalg.team, 0, heldOut.rows);
  for (let t = own.start; t < own.end; t++) {
    const index = rowOf(heldOut, t);
    const from = inputsOf(compensation, heldOut);
    loadInputRow(team, from, index, row);
    refuseNonFinite({ ...from, what: "activations" }, row, index);
    if (convrotGroupSize !== null) kernels.rotate(row, convrotGroupSize);
    for (let k = 0; k < cols; k++) inputs[k * heldOut.rows + t] = row[k]!;
  }
  scratch.release(mark);
  linalg.team.barrier();
  return matrix(inputs, cols, heldOut.rows);
}

function rowOf({ firstRow, rowStep }: HeldOutRows, index: number): number {
  return firstRow + index * rowStep;
}

/**
 * Rounds all of `rounded` to nearest if compensation has not made the outputs for `inputs` clearly better.
 * Returns which rows it rounded.
 */
export function guardByHeldOut(
  context: Pick<ChunkContext, "kernels" | "scratch">,
  linalg: LinalgContext,
  inputs: MatrixF32,
  rounded: GuardedRows,
): number[] {
  const { rows } = rounded.grid;
  const sample = sampleOf(rows);
  const measure = (errors: MatrixF32) => {
    const found = outputEnergies(context, linalg, errors, inputs);
    return { least: found, most: found };
  };
  const { fitted, nearest } = compareRows(context, measure, rounded, sample)!;
  const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
  if (sum(fitted) <= CLEAR_GAIN * sum(nearest)) return [];
  return roundToNearest(context, rounded, Array.from({ length: rows }, (_, row) => row));
}

/** Squared output errors of rows for all inputs. */
function outputEnergies(
  { scratch }: Pick<ChunkContext, "scratch">,
  { kernels }: LinalgContext,
  errors: MatrixF32,
  inputs: MatrixF32,
): Float64Array {
  const mark = scratch.mark();
  const products = matrix(scratch.f32(errors.rows * inputs.cols), errors.rows, inputs.cols);
  kernels.gemmF32(products, errors, inputs, "set");
  const energies = new Float64Array(errors.rows);
  for (let i = 0; i < errors.rows; i++) {
    for (let t = 0; t < inputs.cols; t++) energies[i]! += products.data[i * inputs.cols + t]! ** 2;
  }
  scratch.release(mark);
  return energies;
}
