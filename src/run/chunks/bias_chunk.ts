/** Corrects some elements of a bias for what rounding did to the mean output: see `quant/bias_correction.ts`. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { LayerInputs } from "../../calibration/layer_inputs.ts";
import type { TaskKind } from "../task_kind.ts";
import { f32ToBf16 } from "../../core/dtype.ts";
import { meanShrinkage } from "../../quant/bias_correction.ts";
import { type ChunkGrid, chunkRect, type Rect, wholeRowGrid } from "../chunk_grid.ts";
import { type CorrectBiasTask, elementBytes } from "../tasks.ts";
import { bytesOf } from "../../core/bytes.ts";
import { SLOT } from "../layer_statistics.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";
import {
  loadBoth,
  loadInputs,
  loadVector,
  planBoth,
  planInputs,
  planVector,
} from "./measure_chunk.ts";

/** Inputs that are in memory at once. */
const ROWS_AT_A_TIME = 32;

/** A bias gets what rounding took from the mean output. */
export const CORRECT_BIAS: TaskKind<CorrectBiasTask> = {
  matrices: ({ reference, stored }) => [reference, stored],
  grid: ({ reference, stored }) => wholeRowGrid(reference, stored),
  planMemory: ({ own }, task, grid) => planBias(own, task, grid),
  runChunk: (context, task, { rect }) => correctBiasChunk(context, task, rect),
};

/** Reads the rows of `rect` from source and file, and writes their elements of the bias. */
function correctBiasChunk(context: ChunkContext, task: CorrectBiasTask, rect: Rect): void {
  const { scratch, slot, kernels } = context;
  const mark = scratch.mark();
  const { mean, factor } = meanOf(context, task);
  const { w, stored } = loadBoth(context, task, rect);
  const bias = loadVector(context, task.bias);
  const corrected = scratch.f32(rect.rows);
  const shifts = scratch.f64(rect.rows);
  kernels.weighDifferences(shifts, mean, w, stored);
  for (let r = 0; r < rect.rows; r++) {
    const shift = shifts[r]!;
    const before = bias[rect.row + r]!;
    corrected[r] = before + factor * shift;
    slot[SLOT.correctBias.change]! += (factor * shift) ** 2;
    slot[SLOT.correctBias.before]! += before * before;
  }
  slot[SLOT.correctBias.factor] = factor;
  const at = task.outOffsetBytes + rect.row * elementBytes(task.dtype);
  // Without a mean the bytes stay what they are, whatever their NaNs.
  if (factor > 0) context.write(encode(context, corrected, task.dtype), at);
  scratch.release(mark);
}

function encode(
  context: ChunkContext,
  x: Float32Array,
  dtype: CorrectBiasTask["dtype"],
): Uint8Array {
  if (dtype === "F32") return bytesOf(x);
  const out = context.scratch.u16(x.length);
  if (dtype === "F16") context.kernels.castF16(out, x);
  else for (let i = 0; i < x.length; i++) out[i] = f32ToBf16(x[i]!);
  return bytesOf(out);
}

/** f64 `[K]`: the mean input; and the factor it is to be taken with. */
function meanOf(
  context: ChunkContext,
  { mean: { kind, inputs } }: CorrectBiasTask,
): { mean: Float64Array; factor: number } {
  const { scratch, kernels } = context;
  const { rows, cols } = inputs;
  const sums = scratch.f64(cols).fill(0);
  const mark = scratch.mark();
  const { squares, x } = roomForMean(scratch, inputs);
  squares.fill(0);
  for (let first = 0; first < rows; first += ROWS_AT_A_TIME) {
    const part = x.subarray(0, Math.min(ROWS_AT_A_TIME, rows - first) * cols);
    loadInputs(context, inputs, part, first);
    kernels.addColumns(sums, part);
    kernels.addSquares(squares, part);
  }
  // Without one negative number they are magnitudes, and say nothing of the mean.
  const factor = kind === "rows"
    ? meanShrinkage({ rows, sums, squares })
    : sums.some((sum) => sum < 0)
    ? 1
    : 0;
  for (let k = 0; k < cols; k++) sums[k]! /= rows;
  scratch.release(mark);
  return { mean: sums, factor };
}

function roomForMean(scratch: Pick<Scratch, "f32" | "f64">, { rows, cols }: LayerInputs) {
  return { squares: scratch.f64(cols), x: scratch.f32(Math.min(ROWS_AT_A_TIME, rows) * cols) };
}

function planBias(memory: CountedMemory, task: CorrectBiasTask, grid: ChunkGrid): void {
  const { mean: { inputs }, bias, dtype } = task, rect = chunkRect(grid, 0);
  memory.f64(inputs.cols);
  memory.within(() => {
    roomForMean(memory, inputs);
    planInputs(memory, inputs, Math.min(ROWS_AT_A_TIME, inputs.rows));
  });
  planBoth(memory, task, rect);
  planVector(memory, bias);
  memory.f32(rect.rows);
  memory.f64(rect.rows);
  if (dtype !== "F32") memory.u16(rect.rows);
}
