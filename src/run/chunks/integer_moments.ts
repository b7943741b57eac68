/**
 * The Hessian of a layer's inputs in the space of its codes, summed up in 16-bit integers: half the time of f32, and
 * nothing K x K is rotated, mirrored or shrunk afterwards. For layers whose errors are fed back in integers too.
 *
 * Inputs are rotated first, row by row: with T rows, w = `shrinkageOf` and e the mean squares of the inputs as
 * they are, what `rotatedHessian` makes is
 *
 *     Rᵀ·(w XᵀX / T + (1 - w) diag(e))·R = w (XR)ᵀ(XR) / T + (1 - w) Rᵀ·diag(e)·R
 *
 * and the second term is nothing but blocks of a rotation group.
 *
 * Error. XR is rounded to integers with a scale for every channel in 64 rows, in which a channel has about 14 bits:
 * the Hessian is that of inputs that are off by some 5e-5 of their channel, so it has no negative direction.
 * (Inputs in BF16 are off by 1e-3 themselves.) An element is off by some 7e-5 / sqrt(T) of the root of the product
 * of its two energies, the whole, in norm, by that times 2 sqrt(K): below a thousandth of the default damping for
 * 1,024 rows of 1,536 channels. Sums of 64 terms are exact; they are added up in f32, which {@link standsIntegers}
 * looks at.
 *
 * Memory, shared: 2 bytes for each of {@link PART_ROWS} rows of inputs besides the Hessian, and some; each member has
 * 64 rows in f32.
 */

import type { Compensation } from "../../calibration/compensation.ts";
import { type Hessian, shrinkageOf } from "../../linalg/hessian.ts";
import { GRAM_RUN } from "../../linalg/linalg_kernels.ts";
import { block, matrix } from "../../linalg/matrix.ts";
import { shareOf, triangleShareOf } from "../../linalg/team.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Scratch, TeamContext } from "./chunk_context.ts";
import { feedsIntegers } from "./compensated_task.ts";
import {
  codeBlockSize,
  planRotatedHessian,
  refuseNonFinite,
  rotatedHessian,
} from "./load_hessian.ts";
import { loadInputRows, planInputRows } from "./load_inputs.ts";

/** Runs whose moments are added up in f32. */
const PART_RUNS = 16;

/** Rows of inputs that are in memory at once. */
const PART_ROWS = PART_RUNS * GRAM_RUN;

/** Rows of the Hessian in units of which members share them. */
const GRAM_ROWS = 128;

/** What sums in f32 are off by: a rounding for every run, two products and the sum in integers. */
const SUM_ERROR = (PART_RUNS + 3) * 2 ** -24;

/** The sums of all squares for which products and sums are well within the range of f32. */
const PLAIN_SUMS = { least: 1e-16, most: 1e30 };

/** Whether the Hessian of `task` may be summed up in integers. Depends on the task alone. */
export function standsIntegers(task: QuantizeTask, compensation: Compensation): boolean {
  const { source: { cols }, convrotGroupSize } = task;
  const { statistic, directions, damping } = compensation;
  return feedsIntegers(task) && statistic === "activations" && directions === null &&
    cols % 8 === 0 && codeBlockSize(cols, convrotGroupSize, compensation) === cols &&
    SUM_ERROR * cols <= damping / 4;
}

function roomForPart(shared: Pick<Scratch, "i32" | "f32" | "f64">, cols: number, rows: number) {
  const most = Math.min(PART_ROWS, rows), runs = Math.ceil(most / GRAM_RUN);
  return {
    pairs: shared.i32(Math.ceil(most / 2) * cols),
    scales: shared.f32(runs * cols),
    squares: shared.f64(runs * cols),
  };
}

function roomForRun(scratch: Pick<Scratch, "f32">, cols: number, rows: number): Float32Array {
  return scratch.f32(Math.min(GRAM_RUN, rows) * cols);
}

/**
 * Inputs in f32 that take no more room, for a layer that cannot be summed up in integers after all; a multiple of
 * GEMM_DEPTH.
 */
const ROWS_INSTEAD = PART_ROWS / 2;

/** Counts what {@link integerHessian} leaves in the memory of the team, and takes on its way. */
export function planIntegerHessian(
  memory: PlannedMemory,
  task: QuantizeTask,
  compensation: Compensation,
): void {
  const { own, shared } = memory, { rows } = compensation;
  const { source: { cols }, convrotGroupSize } = task;
  shared.within(() => {
    shared.f64(cols * cols);
    roomForPart(shared, cols, rows);
  });
  own.within(() => {
    roomForRun(own, cols, rows);
    planInputRows(own, compensation, Math.min(GRAM_RUN, rows), cols);
  });
  if (convrotGroupSize !== null) own.within(() => roomForGroup(own, convrotGroupSize));
  planRotatedHessian(memory, task, compensation, ROWS_INSTEAD);
}

/**
 * Returns the Hessian of `task`, which {@link standsIntegers} has accepted, in shared memory: summed up in integers,
 * or as `rotatedHessian` does if the inputs are too large or too small. Every worker of the team calls it.
 *
 * @throws FormatError if an input is NaN or infinite.
 */
export function integerHessian(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): Hessian {
  return integerMoments(team, task, compensation) ??
    rotatedHessian(team, task, compensation, ROWS_INSTEAD);
}

/**
 * Returns the Hessian of `task`, which {@link standsIntegers} has accepted, in shared memory; null, with nothing
 * taken, if the inputs are too large or too small. Every worker of the team calls it.
 *
 * @throws FormatError if an input is NaN or infinite.
 */
export function integerMoments(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): Hessian | null {
  const { linalg, shared } = team;
  const { source: { cols }, convrotGroupSize: group } = task, { rows } = compensation;
  const begin = shared.mark(), values = shared.f64(cols * cols), h = matrix(values, cols, cols);
  const mark = shared.mark(), room = roomForPart(shared, cols, rows);
  const energies = new Float64Array(cols), weight = shrinkageOf(rows, cols);
  const own = triangleShareOf(linalg.team, cols, GRAM_ROWS);
  for (let first = 0; first < rows; first += PART_ROWS) {
    const terms = Math.min(PART_ROWS, rows - first);
    packInputs(team, task, compensation, { first, terms, room });
    linalg.team.barrier();
    const runs = Math.ceil(terms / GRAM_RUN);
    for (let run = 0; run < runs; run++) addRow(energies, room.squares, run * cols);
    const args = { terms, first: own.start, end: own.end, factor: weight / rows, add: first > 0 };
    linalg.kernels.gramI16(h, room, args);
    linalg.team.barrier();
  }
  shared.release(mark);
  const sum = energies.reduce((all, energy) => all + energy, 0);
  if (!(sum >= PLAIN_SUMS.least && sum <= PLAIN_SUMS.most)) {
    shared.release(begin);
    return null;
  }
  const live = energies.filter((energy) => energy !== 0).length, dead = cols - live;
  const fill = group === null ? 0 : sum / live / rows;
  addDiagonal(team, values, group, {
    diagonal: energies.map((energy) => energy === 0 ? fill : (1 - weight) * energy / rows),
  });
  const hessian = { size: cols, blockSize: cols, values, source: "activations" } as const;
  return dead === 0 || group === null ? hessian : { ...hessian, deadChannels: dead };
}

/** A function of its own, as it is compiled while it runs. */
function addRow(sums: Float64Array, rows: Float64Array, at: number): void {
  for (let k = 0; k < sums.length; k++) sums[k] = sums[k]! + rows[at + k]!;
}

/** Packs this member's runs of `terms` rows from `first` on, and sums up their squares before they are rotated. */
function packInputs(
  team: TeamContext,
  { source: { cols }, convrotGroupSize: group }: QuantizeTask,
  compensation: Compensation,
  { first, terms, room }: {
    readonly first: number;
    readonly terms: number;
    readonly room: ReturnType<typeof roomForPart>;
  },
): void {
  const { linalg, scratch, kernels } = team;
  const mark = scratch.mark(), x = roomForRun(scratch, cols, compensation.rows);
  const runs = shareOf(linalg.team, 0, Math.ceil(terms / GRAM_RUN));
  for (let run = runs.start; run < runs.end; run++) {
    const from = run * GRAM_RUN, rows = Math.min(GRAM_RUN, terms - from);
    const inputs = matrix(x.subarray(0, rows * cols), rows, cols);
    loadInputRows(team, compensation, first + from, inputs);
    const squares = room.squares.subarray(run * cols, (run + 1) * cols);
    squares.fill(0);
    kernels.addSquares(squares, inputs.data);
    const place = { ...compensation, what: "activations" };
    refuseNonFinite(team, place, inputs, { firstRow: first + from });
    if (group !== null) kernels.rotate(inputs.data, group);
    const scales = room.scales.subarray(run * cols, (run + 1) * cols);
    linalg.kernels.packFactor({ pairs: room.pairs.subarray(from / 2 * cols), scales }, inputs);
  }
  scratch.release(mark);
}

function roomForGroup(scratch: Pick<Scratch, "f64">, group: number): Float64Array {
  return scratch.f64(group);
}

/** Adds a diagonal matrix, rotated in groups, to K x K `values`. By the whole team; ends in a barrier. */
function addDiagonal(
  { linalg, scratch }: TeamContext,
  values: Float64Array,
  group: number | null,
  { diagonal }: { readonly diagonal: Float64Array },
): void {
  const cols = diagonal.length, size = group ?? 1;
  const own = shareOf(linalg.team, 0, cols, size);
  if (size === 1) {
    for (let k = own.start; k < own.end; k++) values[k * (cols + 1)]! += diagonal[k]!;
    linalg.team.barrier();
    return;
  }
  const mark = scratch.mark(), row = roomForGroup(scratch, size);
  for (let top = own.start; top < own.end; top += size) {
    firstRow(linalg.kernels, row, diagonal.subarray(top, top + size));
    const place = block(matrix(values, cols, cols), top, top, size, size);
    linalg.kernels.addRotatedDiagonal(place, row);
  }
  scratch.release(mark);
  linalg.team.barrier();
}

/** The first row of Rᵀ·diag(diagonal)·R. */
function firstRow(
  kernels: TeamContext["linalg"]["kernels"],
  row: Float64Array,
  diagonal: Float64Array,
): void {
  const size = row.length;
  row.fill(0);
  row[0] = 1;
  kernels.rotateRowsF64(matrix(row, 1, size), size);
  for (let k = 0; k < size; k++) row[k] = row[k]! * diagonal[k]!;
  kernels.rotateRowsF64(matrix(row, 1, size), size);
}
