/**
 * Holds error compensation to its gain on inputs that it was not fitted to: a band of rows whose outputs for
 * the held-out rows of the calibration data are not clearly better than those of rounding to nearest is
 * rounded to nearest. On the rows it was fitted to, compensation always looks better than it is, the more so
 * the fewer they are.
 *
 * Cost: 2 products of the errors of at most {@link SAMPLED_ROWS} rows of a band with at most 64 inputs. Shared
 * memory: the inputs, in the space of the codes.
 */

import type { Compensation, HeldOutRows } from "../../calibration/compensation.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { matrix, type MatrixF32, transpose } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Rect } from "../chunk_grid.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { ChunkContext, Scratch, TeamContext } from "./chunk_context.ts";
import { compareRows, type GuardedRows, planGuard, roundToNearest } from "./guard_rows.ts";
import { refuseNonFinite } from "./load_hessian.ts";
import { loadInputRow, loadInputRows, planInputRows } from "./load_inputs.ts";

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
  own.within(() => planInputRows(own, inputsOf(compensation, heldOut), heldOut.rows, cols));
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
  planGuard(
    memory,
    sample,
    (height) => memory.within(() => roomForOutputs(memory, height, heldOut.rows)),
  );
}

/** The rows of a band that are looked at. */
function sampleOf(rows: number): number[] {
  const stride = Math.ceil(rows / SAMPLED_ROWS);
  return Array.from({ length: Math.ceil(rows / stride) }, (_, i) => i * stride);
}

/**
 * Reads the held-out inputs of a layer, `[K, inputs]`, rotated as its codes are; null if there are none.
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
  const { linalg, shared, kernels } = team, { rowStep } = heldOut;
  const inputs = shared.f32(cols * heldOut.rows);
  const { start, end } = shareOf(linalg.team, 0, heldOut.rows);
  const own = matrix(inputs.subarray(start * cols, end * cols), end - start, cols);
  const from = inputsOf(compensation, heldOut), firstRow = heldOut.firstRow + start * rowStep;
  if (rowStep === 1) loadInputRows(team, from, firstRow, own);
  for (let t = 0; rowStep !== 1 && t < own.rows; t++) {
    loadInputRow(team, from, firstRow + t * rowStep, own.data.subarray(t * cols, (t + 1) * cols));
  }
  refuseNonFinite(team, { ...from, what: "activations" }, own, { firstRow, rowStep });
  if (convrotGroupSize !== null) kernels.rotate(own.data, convrotGroupSize);
  linalg.team.barrier();
  return transpose(matrix(inputs, heldOut.rows, cols));
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

function roomForOutputs(scratch: Pick<Scratch, "f32" | "f64">, rows: number, inputs: number) {
  return { products: scratch.f32(rows * inputs), energies: scratch.f64(rows) };
}

/** Squared output errors of rows for all inputs. */
function outputEnergies(
  { scratch, kernels }: Pick<ChunkContext, "scratch" | "kernels">,
  linalg: LinalgContext,
  errors: MatrixF32,
  inputs: MatrixF32,
): Float64Array {
  const mark = scratch.mark();
  const { rows } = errors, { products, energies } = roomForOutputs(scratch, rows, inputs.cols);
  linalg.kernels.gemmF32(matrix(products, rows, inputs.cols), errors, inputs, "set");
  kernels.multiplyRows(energies, products, products);
  const found = energies.slice();
  scratch.release(mark);
  return found;
}
