/**
 * The Hessian of a layer's inputs, from calibration data that is read in parts by all workers of a run,
 * into memory that they share.
 *
 * 8 K² bytes for K channels; 8 K² / S if the columns are cut into S segments; 8 K for channel
 * statistics, and 8 K g more once rotated in groups of g. While it is made, at most ACTIVATION_ROWS rows of
 * inputs besides.
 */

import { FormatError, type FormatErrorPlace } from "../../core/errors.ts";
import {
  addDirections,
  addGram,
  diagonalOf,
  finishGram,
  type Hessian,
  hessianBlock,
  planDirections,
  shrinkageOf,
  shrinkToDiagonal,
  standsSingle,
} from "../../linalg/hessian.ts";
import {
  BadStatisticError,
  hessianFromChannels,
  hessianFromMatrix,
} from "../../linalg/hessian_sources.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { block, matrix, type MatrixF32, type MatrixF64 } from "../../linalg/matrix.ts";
import { rotateHessian } from "../../linalg/rotate_hessian.ts";
import { shareOf } from "../../linalg/team.ts";
import type { GpuCheck } from "../checks/gpu_check.ts";
import { MomentsCheck } from "../checks/moments_check.ts";
import { type MomentsRequest, placeOf } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import { segmentSize } from "./segment_size.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { Scratch, TeamContext } from "./chunk_context.ts";
import { loadInputRow, loadInputRows, planInputRow, planInputRows } from "./load_inputs.ts";

/** Advice about data that is no statistic. */
const BAD_DATA_HINT = "calibrate again, or take the layer out of the file";

/** Calibration inputs that are in memory at once. A multiple of GEMM_DEPTH: the bits do not depend on it. */
const ACTIVATION_ROWS = 1024;

/**
 * Returns the Hessian of `task`, in the space of its codes: rotated if they are. Shared memory.
 *
 * @param rowsAtOnce inputs that are in memory at once, a multiple of GEMM_DEPTH.
 */
export function rotatedHessian(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  rowsAtOnce = ACTIVATION_ROWS,
): Hessian {
  const { cols } = task.source;
  const { shared, linalg } = team;
  const group = task.convrotGroupSize;
  const { values, spare } = roomForRotated(shared, cols, group, compensation);
  const onGpu = task.onGpu?.sumsMoments ?? false;
  const place = { size: cols, group, values, onGpu, rowsAtOnce };
  const hessian = hessianOf(team, compensation, place);
  return group === null ? hessian : rotateHessian(linalg, fillDead(linalg, hessian), group, spare);
}

/**
 * Gives channels without any energy the mean of the others, in place: to be called before channels are
 * mixed. Data that never saw a channel cannot show that errors there are free, and after the mixing nobody
 * could separate them. Ends in a barrier.
 */
export function fillDead({ team }: LinalgContext, hessian: Hessian): Hessian {
  const { size, blockSize, values } = hessian;
  const energies = diagonalOf(hessian);
  const live = energies.filter((energy) => energy !== 0);
  team.barrier(); // everybody has read the diagonal before anybody changes it
  const deadChannels = size - live.length;
  if (deadChannels === 0 || live.length === 0) return hessian;
  const mean = live.reduce((sum, energy) => sum + energy, 0) / live.length;
  const { start, end } = shareOf(team, 0, size);
  for (let i = start; i < end; i++) {
    if (energies[i] === 0) values[i * blockSize + i % blockSize] = mean;
  }
  team.barrier();
  return { ...hessian, deadChannels };
}

/** Columns of a block of the Hessian in original space: 1 for a diagonal. */
function blockSizeOf(
  cols: number,
  group: number | null,
  { statistic, segments, directions }: Compensation,
): number {
  if (directions !== null) return cols; // they cross all columns
  return statistic === "channels" ? 1 : segmentSize(cols, group, segments);
}

/** Channels of a block of the Hessian that {@link rotatedHessian} returns: 1 for a diagonal. */
export function codeBlockSize(
  cols: number,
  group: number | null,
  compensation: Compensation,
): number {
  const blockSize = blockSizeOf(cols, group, compensation);
  return blockSize === 1 ? group ?? 1 : blockSize;
}

function roomForRotated(
  shared: Pick<Scratch, "f64">,
  cols: number,
  group: number | null,
  compensation: Compensation,
) {
  const blockSize = blockSizeOf(cols, group, compensation);
  const values = shared.f64(cols * blockSize);
  return { values, spare: blockSize === 1 && group !== null ? shared.f64(cols * group) : null };
}

/** Counts what {@link rotatedHessian} leaves in the memory of the team, and takes on its way. */
export function planRotatedHessian(
  memory: PlannedMemory,
  { source: { cols }, convrotGroupSize: group }: QuantizeTask,
  compensation: Compensation,
  rowsAtOnce = ACTIVATION_ROWS,
): void {
  roomForRotated(memory.shared, cols, group, compensation);
  planHessian(memory, cols, compensation, rowsAtOnce);
}

/** f64 numbers of a Hessian of `cols` channels in original space, that is rotated in no groups. */
export function hessianElements(cols: number, compensation: Compensation): number {
  return cols * blockSizeOf(cols, null, compensation);
}

/** Counts what {@link hessianOf} takes besides the Hessian. */
export function planHessian(
  { own, shared }: PlannedMemory,
  cols: number,
  compensation: Compensation,
  rowsAtOnce = ACTIVATION_ROWS,
): void {
  const { statistic, directions } = compensation;
  const rows = Math.min(rowsAtOnce, compensation.rows);
  own.within(() => {
    if (statistic === "activations") {
      shared.within(() => roomForInputs(shared, cols, rows));
      planInputRows(own, compensation, rows, cols);
      own.within(() => own.f32(1));
    } else if (statistic === "hessian") own.f32(cols);
    else roomForChannels(own, cols);
    planInputRow(own, compensation, cols);
  });
  if (directions === null) return;
  own.within(() => {
    own.f32(directions.values.length);
    planDirections(own, directions.rank, cols);
  });
}

function roomForInputs(shared: Pick<Scratch, "f32">, cols: number, rows: number): Float32Array {
  return shared.f32(rows * cols);
}

function roomForChannels(scratch: Pick<Scratch, "f32" | "f64">, size: number) {
  return { row: scratch.f32(size), energies: scratch.f64(size) };
}

/** Purpose and place of a Hessian. */
export interface HessianPlace {
  readonly size: number;
  /** Group of the rotation that follows; null: none. */
  readonly group: number | null;
  /**
   * f64 `[size * block]`, shared: `[size]` for channel statistics, `[size * size]` with LoRA directions.
   */
  readonly values: Float64Array;
  /** Whether moments are summed up on the GPU, while there is one. */
  readonly onGpu: boolean;
  /** Inputs that are in memory at once. Default: ACTIVATION_ROWS. */
  readonly rowsAtOnce?: number;
}

/** Fills `into.values` with the Hessian of the inputs, in original space. */
export function hessianOf(
  team: TeamContext,
  compensation: Compensation,
  into: HessianPlace,
): Hessian {
  const { directions } = compensation;
  if (directions === null) return plainHessian(team, compensation, into);
  const { linalg, scratch } = team;
  const hessian = { ...wholeHessian(team, compensation, into), source: "lora" as const };
  const mark = scratch.mark();
  const own = scratch.f32(directions.values.length); // the kernels reach no other memory
  own.set(directions.values);
  addDirections(linalg, hessian, matrix(own, directions.rank, into.size), DIRECTION_STRENGTH);
  scratch.release(mark);
  return hessian;
}

/** With as much energy in the directions of a LoRA as in all inputs: half of what counts is what it reads. */
const DIRECTION_STRENGTH = 1;

/** A Hessian of one block, whatever it is made from. */
function wholeHessian(
  team: TeamContext,
  compensation: Compensation,
  into: HessianPlace,
): Hessian {
  const { linalg, scratch } = team;
  const { size, values } = into;
  const { statistic } = compensation;
  if (statistic === "activations" || statistic === "hessian") {
    return plainHessian(team, { ...compensation, segments: null }, into);
  }
  const mark = scratch.mark();
  const { values: diagonal } = diagonalHessian(team, compensation, size);
  const { start, end } = shareOf(linalg.team, 0, size);
  values.fill(0, start * size, end * size);
  for (let i = start; i < end; i++) values[i * size + i] = diagonal[i]!;
  scratch.release(mark);
  linalg.team.barrier();
  return { size, blockSize: size, values, source: "channels" };
}

/** The energies of the channels in this worker's own scratch, all alike if nothing is known of them. */
function diagonalHessian(team: TeamContext, compensation: Compensation, size: number): Hessian {
  const { scratch } = team;
  const { row, energies } = roomForChannels(scratch, size);
  row.fill(1);
  if (compensation.statistic === "channels") loadInputRow(team, compensation, 0, row);
  return explained(compensation, () => hessianFromChannels(row, energies));
}

function plainHessian(
  team: TeamContext,
  compensation: Compensation,
  into: HessianPlace,
): Hessian {
  const { linalg, scratch } = team;
  const { size, group, values } = into;
  if (compensation.statistic === "activations") return fromInputs(team, compensation, into);
  const mark = scratch.mark();
  if (compensation.statistic === "channels") {
    const hessian = diagonalHessian(team, compensation, size);
    if (linalg.team.index === 0) values.set(hessian.values);
    linalg.team.barrier();
    scratch.release(mark);
    return { ...hessian, values };
  }
  const row = scratch.f32(size);
  const blockSize = segmentSize(size, group, compensation.segments);
  const { start, end } = shareOf(linalg.team, 0, size);
  for (let i = start; i < end; i++) {
    loadInputRow(team, compensation, i, row);
    const first = i - i % blockSize;
    values.set(row.subarray(first, first + blockSize), i * blockSize);
  }
  scratch.release(mark);
  linalg.team.barrier();
  for (let first = 0; first < size; first += blockSize) {
    const segment = values.subarray(first * blockSize, (first + blockSize) * blockSize);
    const place = { team: linalg.team, firstChannel: first };
    explained(compensation, () => hessianFromMatrix(segment, blockSize, place));
    if (compensation.inputs === undefined) continue;
    const weight = shrinkageOf(compensation.inputs, size);
    shrinkToDiagonal(linalg, matrix(segment, blockSize, blockSize), weight);
  }
  return { size, blockSize, values, source: "hessian" };
}

/** XᵀX / T, shrunk toward its diagonal, from inputs that are read in parts. */
function fromInputs(
  team: TeamContext,
  compensation: Compensation,
  { size, group, values, onGpu, rowsAtOnce = ACTIVATION_ROWS }: HessianPlace,
): Hessian {
  const { linalg } = team;
  const blockSize = segmentSize(size, group, compensation.segments);
  const hessian: Hessian = { size, blockSize, values, source: "activations" };
  const blocks = Array.from({ length: size / blockSize }, (_, k) => hessianBlock(hessian, k));
  const isThere = onGpu && blockSize === size && sumOnGpu(team, compensation, hessian);
  if (!isThere) sumOnCpu(team, compensation, { size, blocks, values, rowsAtOnce });
  for (const h of blocks) {
    finishGram(linalg, h, compensation.rows);
    shrinkToDiagonal(linalg, h, shrinkageOf(compensation.rows, size));
  }
  return hessian;
}

/** Sums up XᵀX in the lower triangles of `blocks`, which make up `values`. */
function sumOnCpu(
  team: TeamContext,
  compensation: Compensation,
  { size, blocks, values, rowsAtOnce }: {
    readonly rowsAtOnce: number;
    readonly size: number;
    readonly blocks: readonly MatrixF64[];
    readonly values: Float64Array;
  },
): void {
  const { linalg } = team, { damping } = compensation;
  const own = shareOf(linalg.team, 0, values.length);
  values.fill(0, own.start, own.end);
  forInputs(team, compensation, { size, rowsAtOnce }, (inputs) => {
    const largest = largestInput(team, inputs);
    const isOdd = blocks.some((h) => !standsSingle(largest, { size: h.rows, damping }));
    const single = linalg.team.max(isOdd ? 1 : 0) === 0;
    blocks.forEach((h, k) => {
      addGram(linalg, h, block(inputs, 0, k * h.cols, inputs.rows, h.cols), { single });
    });
    linalg.team.barrier();
    return true;
  });
}

/** The largest magnitude of this member's share of the inputs. */
function largestInput({ linalg, kernels, scratch }: TeamContext, inputs: MatrixF32): number {
  const { data, rows, cols } = inputs, { start, end } = shareOf(linalg.team, 0, rows);
  if (start === end) return 1;
  const mark = scratch.mark();
  const largest = scratch.f32(1), values = data.subarray(start * cols, end * cols);
  const whole = { rows: 1, cols: values.length, groupRows: 1, groupCols: values.length };
  kernels.absmax(largest, values, whole);
  const [found = NaN] = largest;
  scratch.release(mark);
  return found;
}

/**
 * The same on the GPU, in f32, for one block. False, to all members: it could not, and `values` are
 * unspecified.
 */
function sumOnGpu(
  team: TeamContext,
  compensation: Compensation,
  { size, values }: Hessian,
): boolean {
  const { gpu, linalg } = team;
  if (gpu === null) return false;
  const own = shareOf(linalg.team, 0, values.length);
  values.fill(0, own.start, own.end);
  const ask = (request: MomentsRequest, check?: GpuCheck): boolean =>
    linalg.team.max(linalg.team.index === 0 && gpu.run(request, check) ? 1 : 0) === 1;
  const check = new MomentsCheck(compensation.data.path, size, values);
  if (!ask({ op: "moments", step: "begin", size })) return false;
  const part = { size, rowsAtOnce: ACTIVATION_ROWS };
  const isSummed = forInputs(team, compensation, part, ({ data, rows }) => {
    const own = data.subarray(0, rows * size);
    const adding = { prepare: () => check.add(own), verify: () => null };
    return ask({ op: "moments", step: "add", inputs: placeOf(own) }, adding);
  });
  const end = { op: "moments", step: "end", into: placeOf(values) } as const;
  if (!isSummed || !ask(end, check)) return false;
  // Sums beyond the range of f32 are not beyond that of f64. None is larger than those of the diagonal.
  let isFinite = true;
  for (let i = 0; i < size; i++) isFinite &&= Number.isFinite(values[i * (size + 1)]);
  return linalg.team.max(isFinite ? 0 : 1) === 0;
}

/**
 * Reads the inputs in parts, every member its rows, and calls `use` for each part when all of it is there. Ends
 * early if `use`, which ends in a barrier and gives all members the same answer, returns false.
 */
function forInputs(
  team: TeamContext,
  compensation: Compensation,
  { size, rowsAtOnce }: { readonly size: number; readonly rowsAtOnce: number },
  use: (inputs: MatrixF32) => boolean,
): boolean {
  const { linalg, shared } = team;
  const mark = shared.mark();
  const x = roomForInputs(shared, size, Math.min(rowsAtOnce, compensation.rows));
  let goesOn = true;
  for (let first = 0; goesOn && first < compensation.rows; first += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, compensation.rows - first);
    const mine = shareOf(linalg.team, 0, rows);
    const own = matrix(x.subarray(mine.start * size, mine.end * size), mine.end - mine.start, size);
    loadInputRows(team, compensation, first + mine.start, own);
    const from = { ...compensation, what: "activations" };
    refuseNonFinite(team, from, own, { firstRow: first + mine.start });
    linalg.team.barrier();
    goesOn = use(matrix(x, rows, size));
  }
  shared.release(mark);
  return goesOn;
}

/**
 * Throws if rows of calibration data, `what` in messages, hold NaN or infinity.
 *
 * @param firstRow which row of the data the first of them is, the next being `rowStep` further.
 */
export function refuseNonFinite(
  { kernels }: Pick<TeamContext, "kernels">,
  { data, what }: { readonly data: Compensation["data"]; readonly what: string },
  { data: values, rows, cols }: MatrixF32,
  { firstRow, rowStep = 1 }: { readonly firstRow: number; readonly rowStep?: number },
): void {
  const { count, first } = kernels.countNonFinite(values.subarray(0, rows * cols));
  if (count === 0) return;
  const row = firstRow + Math.floor(first / cols) * rowStep;
  throw new FormatError(
    `${what}[${row}, ${first % cols}] is ${values[first]}, needs a finite number`,
    { ...placeIn(data), hint: BAD_DATA_HINT },
  );
}

function placeIn({ path, tensor }: Compensation["data"]): FormatErrorPlace {
  return tensor === undefined ? { path } : { path, tensor };
}

/** Calls `make`; what it says of bad numbers gets the file that they are from. */
function explained<Result>({ data }: Compensation, make: () => Result): Result {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof BadStatisticError)) throw cause;
    throw new FormatError(cause.rule, { ...placeIn(data), hint: BAD_DATA_HINT, cause });
  }
}
