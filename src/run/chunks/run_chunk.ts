/** Runs one chunk of any task, and says how much scratch memory that takes. */

import { HISTOGRAM_BINS } from "../../quant/scale_search.ts";
import {
  type ChunkGrid,
  chunkRect,
  type CompareBytesTask,
  type CompareTask,
  COPY_BYTES,
  type CopyTask,
  elementBytes,
  isTeamTask,
  type QuantizeTask,
  type Rect,
  segmentGrid,
  type Task,
  type TeamTask,
} from "../tasks.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import { castChunk } from "./cast_chunk.ts";
import { type ChunkContext, SLOT, type TeamContext } from "./chunk_context.ts";
import { gptqLayer, gptqScratchBytes, gptqSharedBytes } from "./gptq_chunk.ts";
import {
  learnedChunk,
  learnedLayer,
  learnedScratchBytes,
  learnedSharedBytes,
} from "./learned_chunk.ts";
import { quipLayer, quipScratchBytes, quipSharedBytes } from "./quip_chunk.ts";
import { decodeRect, decodeScratchBytes, rawBytes, readRect } from "./load_rect.ts";
import { keepsMerged, quantizeChunk, tileRows } from "./quantize_chunk.ts";
import { gpuScratchBytes } from "./quantize_on_gpu.ts";
import { correctBiasBytes, correctBiasChunk } from "./bias_chunk.ts";
import { inputScaleBytes, inputScaleChunk } from "./input_scale_chunk.ts";
import { measureChunk, measureScratchBytes } from "./measure_chunk.ts";
import { columnMaxChunk } from "./column_max_chunk.ts";
import { scanChunk } from "./scan_chunk.ts";
import { streamGroup } from "./stream_group.ts";

/** Carries out a whole task. Every worker of the run calls it, for the same task. */
export function runTogether(team: TeamContext, task: TeamTask): void {
  const { transform, compensation, learned } = task;
  if (transform !== undefined) quipLayer(team, task, transform);
  else if (learned !== undefined && compensation !== null) {
    learnedLayer(team, task, { compensation, learned });
  } else if (compensation !== null) gptqLayer(team, task, compensation);
}

/** Bytes that a copy moves at a time. */
const COPY_BLOCK_BYTES = 128 << 10;

/** Carries out chunk `index` of `task`; its numbers are in `context.slot` afterwards. */
export function runChunk(context: ChunkContext, task: Task, grid: ChunkGrid, index: number): void {
  const rect = chunkRect(grid, index);
  const mark = context.scratch.mark();
  switch (task.kind) {
    case "copy":
      copyChunk(context, task, rect);
      break;
    case "compareBytes":
      compareBytes(context, task, rect);
      break;
    case "quantize":
      if (isTeamTask(task)) throw new TypeError(`Cannot do ${task.name} by one worker`);
      if (task.learned !== undefined) learnedChunk(context, task, task.learned);
      else if (grid.streamed) streamGroup(context, task, rect);
      else quantizeChunk(context, task, rect);
      break;
    case "cast":
      castChunk(context, task, rect);
      break;
    case "scan":
      scanChunk(context, task, rect);
      break;
    case "columnMax":
      columnMaxChunk(context, task, rect, index);
      break;
    case "compare":
      compareChunk(context, task, rect);
      break;
    case "measure":
      measureChunk(context, task, rect);
      break;
    case "correctBias":
      correctBiasChunk(context, task, rect);
      break;
    case "inputScale":
      inputScaleChunk(context, task);
      break;
  }
  context.scratch.release(mark);
}

/** In blocks that stay in a core's cache between reading and writing, which large ones do not. */
function copyChunk(context: ChunkContext, task: CopyTask, rect: Rect): void {
  const block = context.scratch.u8(Math.min(COPY_BLOCK_BYTES, rect.cols));
  for (let done = 0; done < rect.cols; done += block.length) {
    const bytes = block.subarray(0, Math.min(block.length, rect.cols - done));
    context.read(task.file, bytes, task.offsetBytes + rect.col + done);
    context.write(bytes, task.outOffsetBytes + rect.col + done);
  }
}

/** Slot 0: how many bytes differ. */
function compareBytes(context: ChunkContext, task: CompareBytesTask, rect: Rect): void {
  const a = context.scratch.u8(rect.cols);
  const b = context.scratch.u8(rect.cols);
  context.read(task.file, a, task.offsetBytes + rect.col);
  context.read(task.otherFile, b, task.otherOffsetBytes + rect.col);
  let different = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) different++;
  context.slot[0] = different;
}

function compareChunk(context: ChunkContext, task: CompareTask, rect: Rect): void {
  const { kernels, scratch } = context;
  const load = (matrix: MatrixSource): Float32Array => {
    const x = scratch.f32(rect.rows * rect.cols);
    const raw = scratch.u8(rawBytes(matrix, rect));
    readRect(context, raw, matrix, rect);
    decodeRect(context, x, raw, matrix, rect);
    return x;
  };
  const x = load(task.reference);
  const xhat = load(task.stored);
  const stats = scratch.f64(SLOT.nonFinite);
  stats.fill(0);
  kernels.errorStats(stats, x, xhat);
  context.slot.set(stats);
}

/** Room for the alignment of the few arrays a chunk takes. */
const SLACK_BYTES = 2048;

/** Bytes of memory that all workers share while they do `task` together; 0 where each works alone. */
export function sharedBytes(task: Task): number {
  if (!isTeamTask(task)) return 0;
  const { transform, compensation, learned } = task;
  if (transform !== undefined) return quipSharedBytes(task, transform);
  if (learned !== undefined) {
    return learnedSharedBytes(task, { compensation: compensation!, learned });
  }
  return gptqSharedBytes(task, compensation!);
}

/** Bytes of scratch memory that the largest chunk of `task` takes. */
export function scratchBytes(task: Task, grid: ChunkGrid): number {
  const elements = grid.rowStep * grid.colStep;
  switch (task.kind) {
    case "copy":
      return Math.min(COPY_BLOCK_BYTES, task.byteLength) + SLACK_BYTES;
    case "compareBytes":
      return 2 * Math.min(COPY_BYTES, task.byteLength) + SLACK_BYTES;
    case "quantize":
      return quantizeScratchBytes(task, grid) + SLACK_BYTES;
    case "cast":
    case "scan":
    case "columnMax":
      return elements * (elementBytes(task.source.dtype) + 4 + 2) +
        decodeScratchBytes(task.source, grid.rowStep) + SLACK_BYTES;
    case "compare": {
      const { reference, stored } = task;
      return elements * (8 + elementBytes(reference.dtype) + elementBytes(stored.dtype)) +
        decodeScratchBytes(reference, grid.rowStep) + decodeScratchBytes(stored, grid.rowStep) +
        SLACK_BYTES;
    }
    case "measure":
      return measureScratchBytes(task, grid);
    case "correctBias":
      return correctBiasBytes(task, grid);
    case "inputScale":
      return inputScaleBytes(task);
  }
}

function quantizeScratchBytes(task: QuantizeTask, grid: ChunkGrid): number {
  if (task.transform !== undefined) return quipScratchBytes(task, task.transform);
  if (task.learned !== undefined) {
    const streaming = task.compensation === null ? 0 : streamBytes(task);
    return Math.max(learnedScratchBytes(task, task.learned), streaming);
  }
  if (task.compensation !== null) return Math.max(gptqScratchBytes(task), streamBytes(task));
  return grid.streamed ? streamBytes(task) : quantizeBytes(task, grid);
}

function quantizeBytes(task: QuantizeTask, grid: ChunkGrid): number {
  const rect = chunkRect(grid, 0);
  const elements = rect.rows * rect.cols;
  const scales = elements / (task.groupRows * task.groupCols);
  return elements * (elementBytes(task.source.dtype) + 1) + 4 * scales +
    (keepsMerged(task) ? 12 : 8) * tileRows(task, rect) * rect.cols +
    gpuScratchBytes(task, elements) +
    decodeScratchBytes(task.source, grid.rowStep);
}

function streamBytes(task: QuantizeTask): number {
  const grid = segmentGrid(task);
  const elements = grid.rowStep * grid.colStep;
  return elements * (elementBytes(task.source.dtype) + 9) + 4 * HISTOGRAM_BINS +
    decodeScratchBytes(task.source, grid.rowStep);
}
