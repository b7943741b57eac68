/**
 * Writes the scale of static activations of one layer: that of the calibration data, or
 * max(absmax / 127, 1e-30) over all its inputs.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { TaskKind } from "../task_kind.ts";
import { rowGrid } from "../chunk_grid.ts";
import { FormatError } from "../../core/errors.ts";
import type { InputScaleTask } from "../tasks.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";
import { loadInputs, planInputs } from "./measure_chunk.ts";
import type { LayerInputs } from "../../calibration/layer_inputs.ts";

/** The scale of static activations of a layer. */
export const INPUT_SCALE: TaskKind<InputScaleTask> = {
  matrices: () => [],
  inputBytes: ({ inputs }) => 4 * inputs.rows * inputs.cols,
  grid: ({ inputs }) => rowGrid(1, inputs.cols, Math.max(1, inputs.cols)),
  planMemory: ({ own }, task) => planInputScale(own, task),
  runChunk: inputScaleChunk,
};

/** Reads the given scale, or all inputs, rotated if they are quantized rotated. */
function inputScaleChunk(context: ChunkContext, task: InputScaleTask): void {
  const scale = task.isGiven ? givenScale(context, task) : scaleOfInputs(context, task);
  context.write(bytesOf(scale), task.outOffsetBytes);
}

function givenScale(context: ChunkContext, { inputs }: InputScaleTask): Float32Array {
  const scale = context.scratch.f32(1);
  loadInputs(context, { ...inputs, cols: 1 }, scale, 0);
  if (scale[0]! > 0) return scale;
  throw new FormatError(`input_scale is ${scale[0]}, needs a finite number above 0`, {
    path: inputs.data.path,
    hint: "calibrate again, or take it out of the file",
  });
}

function scaleOfInputs(
  context: ChunkContext,
  { inputs, convrotGroupSize }: InputScaleTask,
): Float32Array {
  const { scratch, kernels } = context;
  const { rows, cols } = inputs;
  const { row, largest, scale } = roomForRow(scratch, inputs);
  scale.fill(0);
  for (let i = 0; i < rows; i++) {
    loadInputs(context, inputs, row, i);
    if (convrotGroupSize !== null) kernels.rotate(row, convrotGroupSize);
    kernels.absmax(largest, row, { rows: 1, cols, groupRows: 1, groupCols: cols });
    scale[0] = Math.max(scale[0]!, largest[0]!);
  }
  kernels.scaleFromAbsmax(scale, scale);
  return scale;
}

function roomForRow(scratch: Pick<Scratch, "f32">, { cols }: LayerInputs) {
  return { row: scratch.f32(cols), largest: scratch.f32(1), scale: scratch.f32(1) };
}

function planInputScale(memory: CountedMemory, { inputs, isGiven }: InputScaleTask): void {
  if (isGiven) memory.f32(1);
  else roomForRow(memory, inputs);
  planInputs(memory, isGiven ? { ...inputs, cols: 1 } : inputs, 1);
}
