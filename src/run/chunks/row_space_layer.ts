/**
 * The calibration rows of a layer as `quant/row_space.ts` takes them: read once by all workers, shrunk as the
 * Hessian of so many rows is (`shrinkageOf`), rotated, and factored.
 *
 * Shared memory: `planRowSpaceLayer` counts it. Channels without energy count as much as the mean of the
 * others, and all
 * energies are relative to that mean, so that numbers are in the range of f32 whatever the inputs are.
 */

import type { Compensation } from "../../calibration/compensation.ts";
import { shrinkageOf } from "../../linalg/hessian.ts";
import { matrix } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import { factorRowSpace, planRowSpace, type RowSpaceFactor } from "../../quant/row_space.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { Scratch, TeamContext } from "./chunk_context.ts";
import { unitColsOf } from "./compensated_task.ts";
import { refuseNonFinite } from "./load_hessian.ts";
import { loadInputRow, planInputRow } from "./load_inputs.ts";

/** A factor; or why there is none, so that the layer is rounded to nearest. */
export type RowSpaceLayer =
  | { readonly factor: RowSpaceFactor; readonly deadChannels: number }
  | { readonly factor: null; readonly reason: string };

function roomForInputs(shared: Pick<Scratch, "f32" | "f64">, cols: number, rows: number) {
  return { x: shared.f32(cols * rows), energies: shared.f64(cols) };
}

/** Counts what {@link rowSpaceLayer} takes. */
export function planRowSpaceLayer(
  { own, shared }: PlannedMemory,
  { source: { cols } }: QuantizeTask,
  compensation: Compensation,
  blockCols: number,
): void {
  const { rows } = compensation;
  roomForInputs(shared, cols, rows);
  own.within(() => {
    own.f32(cols);
    planInputRow(own, compensation, cols);
  });
  planRowSpace(own, shared, { cols, terms: rows, blockCols, hasLevels: false });
}

/**
 * Reads the inputs of `task` and factors their Hessian. Every worker of the team calls it.
 *
 * @param blockCols of `rowSpaceBlockCols`.
 * @throws FormatError if an input is NaN or infinite.
 */
export function rowSpaceLayer(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  blockCols: number,
): RowSpaceLayer {
  const { linalg, shared, scratch, kernels } = team;
  const { cols } = task.source, { rows, damping } = compensation;
  const groupSize = task.convrotGroupSize!;
  const { x, energies } = roomForInputs(shared, cols, rows);
  const mark = scratch.mark();
  const row = scratch.f32(cols);
  const mine = shareOf(linalg.team, 0, rows);
  for (let t = mine.start; t < mine.end; t++) {
    loadInputRow(team, compensation, t, row);
    const from = { ...compensation, what: "activations" };
    refuseNonFinite(team, from, matrix(row, 1, cols), { firstRow: t });
    for (let k = 0; k < cols; k++) x[k * rows + t] = row[k]!;
  }
  linalg.team.barrier();
  const columns = shareOf(linalg.team, 0, cols);
  for (let k = columns.start; k < columns.end; k++) {
    let sum = 0;
    for (let t = 0; t < rows; t++) sum += x[k * rows + t]! ** 2;
    energies[k] = sum / rows;
  }
  linalg.team.barrier();
  const live = energies.filter((energy) => energy !== 0);
  const mean = live.reduce((sum, energy) => sum + energy, 0) / live.length;
  if (live.length === 0 || !(mean < Infinity)) {
    scratch.release(mark);
    return { factor: null, reason: live.length === 0 ? "the Hessian is zero" : TOO_LARGE };
  }
  const weight = shrinkageOf(rows, cols), scale = Math.sqrt(weight / rows / mean);
  for (let t = mine.start; t < mine.end; t++) {
    for (let k = 0; k < cols; k++) row[k] = x[k * rows + t]! * scale;
    kernels.rotate(row, groupSize);
    for (let k = 0; k < cols; k++) x[k * rows + t] = row[k]!;
  }
  scratch.release(mark);
  const diagonal = Float64Array.from(
    energies,
    (energy) => energy === 0 ? 1 : (1 - weight) * energy / mean,
  );
  linalg.team.barrier();
  const inputs = matrix(x, cols, rows);
  const unitCols = unitColsOf(task);
  const hessian = { inputs, diagonal, groupSize, blockCols, damping, unitCols };
  const factor = factorRowSpace(linalg, shared, hessian);
  if (factor === null) return { factor: null, reason: TOO_LARGE };
  return { factor, deadChannels: cols - live.length };
}

const TOO_LARGE = "the inputs are too large, or too far apart, for their numbers";
