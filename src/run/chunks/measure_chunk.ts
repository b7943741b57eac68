/**
 * The effect of rounding on the outputs of a layer: `‖XWᵀ − Y‖² ` and `‖XWᵀ‖²` for some rows of W, Y being what
 * the stored layer gives for the same inputs X, with X as it is (W8A16) and with X quantized per row
 * to int8 as the runtime does (W8A8). Codes and scales are those of the file.
 *
 * Memory of a chunk of n rows and K columns: 4 n K bytes each for W and what is stored, their bytes as stored,
 * and MEASURED_AT_A_TIME rows of inputs and outputs. `planMeasure` counts it.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { TaskKind } from "../task_kind.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { matrix, transpose } from "../../linalg/matrix.ts";
import {
  type CodeSpace,
  int8Linear,
  type Int8Weight,
  planInt8Linear,
} from "../../quant/int8_ops.ts";
import { measureCheck, RUN_SUMS, runCount } from "../checks/measure_check.ts";
import { packArrays } from "../gpu_requests.ts";
import { type ChunkGrid, chunkRect, type Rect, wholeRowGrid } from "../chunk_grid.ts";
import { MEASURED_AT_A_TIME, type MeasureTask } from "../tasks.ts";
import type { LayerInputs } from "../../calibration/layer_inputs.ts";
import { type MatrixSource, runsInInt8 } from "../../formats/matrix_source.ts";
import { bytesOf } from "../../core/bytes.ts";
import { SLOT } from "../layer_statistics.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";
import { refuseNonFinite } from "./load_hessian.ts";
import { loadInputRow, loadInputRows, planInputRows } from "./load_inputs.ts";
import {
  decodeRect,
  planDecode,
  planIntegers,
  planReadScales,
  rawBytes,
  readIntegers,
  readRect,
  readScales,
} from "./load_rect.ts";

/** Effect of rounding on the outputs of a layer. */
export const MEASURE_OUTPUTS: TaskKind<MeasureTask> = {
  matrices: ({ reference, stored }) => [reference, stored],
  needsLinalg: () => true,
  grid: ({ reference, stored, onGpu }) => wholeRowGrid(reference, stored, onGpu?.chunkElements),
  planMemory: ({ own }, task, grid) => planMeasure(own, task, grid),
  runChunk: (context, task, { rect }) => measureChunk(context, task, rect),
};

/** Fills the slot with the sums over the rows of `rect`. */
function measureChunk(context: ChunkContext, task: MeasureTask, rect: Rect): void {
  const { scratch, linalg } = context;
  if (linalg === null) throw new TypeError("Cannot measure: no linear algebra was loaded");
  const mark = scratch.mark();
  const { w, stored, codes } = loadBoth(context, task, rect);
  const bias = biasChange(context, task, rect);
  context.kernels.subtract(stored, w, stored);
  if (task.inputs.statistic === "hessian") {
    measureByHessian(context, linalg, task, { w, difference: stored, rect });
  } else {
    const weight = codes === null ? null : weightOf(context, task.stored, rect, codes);
    if (measureOnGpu(context, task, { w, difference: stored, weight, rect })) {
      scratch.release(mark);
      return;
    }
    measureByInputs(context, linalg, task, { w, difference: stored, weight, bias, rect });
  }
  scratch.release(mark);
}

/** Reads the rows of `rect` from source and file, in original space; and the codes, if there are. */
export function loadBoth(
  context: ChunkContext,
  { reference, stored }: Pick<MeasureTask, "reference" | "stored">,
  rect: Rect,
): { w: Float32Array; stored: Float32Array; codes: Int8Array | null } {
  const { scratch } = context;
  const { w, restored, codes } = roomForBoth(scratch, stored, rect);
  const mark = scratch.mark();
  const raw = scratch.u8(rawBytes(reference, rect));
  readRect(context, raw, reference, rect);
  decodeRect(context, w, raw, reference, rect);
  scratch.release(mark);
  readRect(context, codes, stored, rect);
  decodeRect(context, restored, codes, stored, rect);
  return {
    w,
    stored: restored,
    codes: runsInInt8(stored) ? new Int8Array(codes.buffer, codes.byteOffset, codes.length) : null,
  };
}

/** The rows of `rect` as the runtime has them; `codes` as they are stored. */
function weightOf(
  context: ChunkContext,
  stored: MatrixSource,
  rect: Rect,
  codes: Int8Array,
): Int8Weight {
  const { transform, convrotGroupSize } = stored;
  if (stored.packed !== undefined) {
    const { rows, cols } = rect, grid = { rows, cols, groupRows: 1, groupCols: cols };
    const raw = bytesOf(codes), space = spaceOf(context, stored, convrotGroupSize);
    return { ...readIntegers(context, raw, stored, rect), grid, space };
  }
  const rows = transform?.rows ?? rect.rows, cols = transform?.cols ?? rect.cols;
  // Rows of a chunk may begin inside a group: every row gets the scales it has.
  const { groupCols } = stored.scale!;
  const grid = { rows, cols, groupRows: 1, groupCols: Math.min(groupCols, cols) };
  const scales = readScales(context, { scale: stored.scale, cols }, { ...rect, rows, cols });
  return { codes, scales, grid, space: spaceOf(context, stored, convrotGroupSize) };
}

function spaceOf(
  context: ChunkContext,
  { rows, cols, transform }: MatrixSource,
  groupSize: number | null,
): CodeSpace {
  if (transform === undefined) {
    return groupSize === null ? { kind: "original" } : { kind: "convrot", groupSize };
  }
  const signs = (count: number, { file, offsetBytes }: { file: number; offsetBytes: number }) => {
    const values = context.scratch.f32(count);
    context.read(file, bytesOf(values), offsetBytes);
    return values;
  };
  const signRow = signs(transform.rows, transform.signRow);
  return {
    kind: "sylvester",
    rows,
    cols,
    signRow,
    signCol: signs(transform.cols, transform.signCol),
  };
}

/** Difference of the source's bias and the file's, for the rows of `rect`; null if both are the same. */
function biasChange(
  context: ChunkContext,
  { bias }: MeasureTask,
  rect: Rect,
): Float32Array | null {
  if (bias === null) return null;
  const change = context.scratch.f32(rect.rows);
  const mark = context.scratch.mark();
  const source = loadVector(context, bias.reference), own = loadVector(context, bias.stored);
  for (let r = 0; r < rect.rows; r++) change[r] = source[rect.row + r]! - own[rect.row + r]!;
  context.scratch.release(mark);
  return change;
}

/** All values of a small tensor. */
export function loadVector(context: ChunkContext, vector: MatrixSource): Float32Array {
  const rect = { row: 0, col: 0, rows: vector.rows, cols: vector.cols };
  const values = context.scratch.f32(rect.rows * rect.cols);
  const mark = context.scratch.mark();
  const raw = context.scratch.u8(rawBytes(vector, rect));
  readRect(context, raw, vector, rect);
  decodeRect(context, values, raw, vector, rect);
  context.scratch.release(mark);
  return values;
}

/** The rows of one chunk, as they should be and as they are. */
interface Rows {
  readonly w: Float32Array;
  /** W − Ŵ. */
  readonly difference: Float32Array;
  readonly rect: Rect;
}

/** Does the same on the GPU; false: it is left to the CPU. */
function measureOnGpu(
  context: ChunkContext,
  { name, inputs, onGpu }: MeasureTask,
  { w, difference, weight, rect }: Rows & { weight: Int8Weight | null },
): boolean {
  const { scratch, gpu, slot } = context;
  if (!gpu || onGpu === undefined) return false;
  const { cols } = rect, mark = scratch.mark();
  const most = Math.min(MEASURED_AT_A_TIME, inputs.rows);
  const { x, runs } = roomForDevice(scratch, most, rect);
  const sums = new Float64Array(RUN_SUMS);
  const stored = weight === null ? null : {
    codes: weight.codes,
    scales: weight.scales,
    grid: weight.grid,
    convrotGroupSize: weight.space.kind === "convrot" ? weight.space.groupSize : null,
  };
  let isDone = true;
  for (let first = 0; first < inputs.rows && isDone; first += most) {
    const m = Math.min(most, inputs.rows - first), tile = x.subarray(0, m * cols);
    loadInputs(context, inputs, tile, first);
    const found = runs.subarray(0, RUN_SUMS * runCount(m, rect.rows));
    const rows = { weights: w, difference, inputs: tile, cols, stored, sums: found };
    const subject = `${JSON.stringify(name)} from row ${rect.row} and input ${first} on`;
    const isFirst = onGpu.isFirst === true && rect.row === 0 && first === 0;
    const check = measureCheck({ ...rows, name: subject }, isFirst);
    isDone = gpu.run({ op: "measure", rows: packArrays(rows) }, check ?? undefined);
    for (let at = 0; at < found.length; at++) sums[at % RUN_SUMS]! += found[at]!;
  }
  if (isDone) {
    slot[SLOT.measure.signal]! += sums[0]!;
    slot[SLOT.measure.errorA16]! += sums[1]!;
    slot[SLOT.measure.errorA8]! += sums[2]!;
  }
  scratch.release(mark);
  return isDone;
}

function measureByInputs(
  context: ChunkContext,
  linalg: LinalgContext,
  { inputs }: MeasureTask,
  { w, difference, weight, bias, rect }: Rows & {
    weight: Int8Weight | null;
    bias: Float32Array | null;
  },
): void {
  const { scratch, slot, kernels } = context;
  const { rows: n, cols } = rect;
  const most = Math.min(MEASURED_AT_A_TIME, inputs.rows);
  const { x, wanted, got } = roomForProducts(scratch, most, rect);
  for (let first = 0; first < inputs.rows; first += most) {
    const m = Math.min(most, inputs.rows - first);
    const tile = x.subarray(0, m * cols), y = wanted.subarray(0, m * n), e = got.subarray(0, m * n);
    loadInputs(context, inputs, tile, first);
    const product = (out: Float32Array, b: Float32Array) =>
      linalg.kernels.gemmF32(
        matrix(out, m, n),
        matrix(tile, m, cols),
        transpose(matrix(b, n, cols)),
        "set",
      );
    product(y, w);
    product(e, difference);
    slot[SLOT.measure.signal]! += kernels.squaredError(y, null, null);
    slot[SLOT.measure.errorA16]! += kernels.squaredError(e, null, bias);
    if (weight === null) continue;
    int8Linear({ kernels, linalg: linalg.kernels, memory: scratch }, e, tile, weight);
    slot[SLOT.measure.errorA8]! += kernels.squaredError(y, e, bias);
  }
}

/** tr(W H Wᵀ) and tr(D H Dᵀ): what inputs of these second moments give, up to a factor. */
function measureByHessian(
  context: ChunkContext,
  linalg: LinalgContext,
  { inputs }: MeasureTask,
  { w, difference, rect }: Rows,
): void {
  const { scratch, slot } = context;
  const { rows: n, cols } = rect;
  const most = Math.min(MEASURED_AT_A_TIME, cols);
  const { h, product } = roomForMoments(scratch, most, rect);
  for (let first = 0; first < cols; first += most) {
    const m = Math.min(most, cols - first);
    const part = h.subarray(0, m * cols), out = product.subarray(0, n * m);
    loadInputs(context, inputs, part, first);
    for (
      const [index, a] of [[SLOT.measure.signal, w], [SLOT.measure.errorA16, difference]] as const
    ) {
      linalg.kernels.gemmF32(
        matrix(out, n, m),
        matrix(a, n, cols),
        transpose(matrix(part, m, cols)),
        "set",
      );
      let sum = 0;
      for (let r = 0; r < n; r++) {
        for (let k = 0; k < m; k++) sum += out[r * m + k]! * a[r * cols + first + k]!;
      }
      slot[index]! += sum;
    }
  }
}

/**
 * Fills `out` with rows of the calibration data, from row `first` of those that are measured with.
 *
 * @throws FormatError if they hold NaN or infinity.
 */
export function loadInputs(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
  inputs: LayerInputs,
  out: Float32Array,
  first: number,
): void {
  const { cols, rowStep, statistic, data } = inputs;
  const firstRow = inputs.firstRow + first * rowStep, rows = matrix(out, out.length / cols, cols);
  // Second moments have factors of their own in each row.
  const areNeighbours = rowStep === 1 && !(statistic === "hessian" && data.factors !== undefined);
  if (areNeighbours) loadInputRows(context, inputs, firstRow, rows);
  for (let i = 0; !areNeighbours && i < rows.rows; i++) {
    const row = out.subarray(i * cols, (i + 1) * cols);
    loadInputRow(context, inputs, firstRow + i * rowStep, row);
  }
  refuseNonFinite(context, { data, what: statistic }, rows, { firstRow, rowStep });
}

/** Counts what {@link loadInputs} takes for `rows` rows. */
export function planInputs(memory: CountedMemory, inputs: LayerInputs, rows: number): void {
  planInputRows(memory, inputs, rows, inputs.cols);
}

function roomForBoth(
  scratch: Pick<Scratch, "f32" | "u8">,
  stored: MatrixSource,
  rect: Rect,
) {
  return {
    w: scratch.f32(rect.rows * rect.cols),
    restored: scratch.f32(rect.rows * rect.cols),
    codes: scratch.u8(rawBytes(stored, rect)),
  };
}

/** Counts what {@link loadBoth} leaves, and takes on its way. */
export function planBoth(
  memory: CountedMemory,
  { reference, stored }: Pick<MeasureTask, "reference" | "stored">,
  rect: Rect,
): void {
  roomForBoth(memory, stored, rect);
  memory.within(() => {
    memory.u8(rawBytes(reference, rect));
    planDecode(memory, reference, rect);
  });
  planDecode(memory, stored, rect);
}

/** Counts what {@link loadVector} leaves, and takes on its way. */
export function planVector(memory: CountedMemory, vector: MatrixSource): void {
  const rect = { row: 0, col: 0, rows: vector.rows, cols: vector.cols };
  memory.f32(rect.rows * rect.cols);
  memory.within(() => {
    memory.u8(rawBytes(vector, rect));
    planDecode(memory, vector, rect);
  });
}

function roomForProducts(scratch: Pick<Scratch, "f32">, most: number, { rows, cols }: Rect) {
  return {
    x: scratch.f32(most * cols),
    wanted: scratch.f32(most * rows),
    got: scratch.f32(most * rows),
  };
}

function roomForDevice(scratch: Pick<Scratch, "f32" | "f64">, most: number, { rows, cols }: Rect) {
  return { x: scratch.f32(most * cols), runs: scratch.f64(RUN_SUMS * runCount(most, rows)) };
}

function roomForMoments(scratch: Pick<Scratch, "f32">, most: number, { rows, cols }: Rect) {
  return { h: scratch.f32(most * cols), product: scratch.f32(rows * most) };
}

function planMeasure(memory: CountedMemory, task: MeasureTask, grid: ChunkGrid): void {
  const { stored, bias, inputs } = task, rect = chunkRect(grid, 0);
  planBoth(memory, task, rect);
  if (bias !== null) {
    memory.f32(rect.rows);
    memory.within(() => {
      planVector(memory, bias.reference);
      planVector(memory, bias.stored);
    });
  }
  if (inputs.statistic === "hessian") {
    const most = Math.min(MEASURED_AT_A_TIME, rect.cols);
    roomForMoments(memory, most, rect);
    planInputs(memory, inputs, most);
    return;
  }
  const most = Math.min(MEASURED_AT_A_TIME, inputs.rows), { transform } = stored;
  const rows = transform?.rows ?? rect.rows, cols = transform?.cols ?? rect.cols;
  if (runsInInt8(stored)) {
    if (stored.packed !== undefined) planIntegers(memory, stored, rect);
    else planReadScales(memory, { ...stored, rows, cols }, rows);
    if (transform !== undefined) [memory.f32(transform.rows), memory.f32(transform.cols)];
  }
  if (task.onGpu !== undefined) {
    memory.within(() => {
      roomForDevice(memory, most, rect);
      planInputs(memory, inputs, most);
    });
  }
  roomForProducts(memory, most, rect);
  planInputs(memory, inputs, most);
  if (!runsInInt8(stored)) return;
  const groupCols = Math.min(stored.scale?.groupCols ?? cols, cols);
  const weight = { rows, cols, groupRows: 1, groupCols };
  planInt8Linear(memory, most, { grid: weight, isTransformed: transform !== undefined });
}
