/** Layers that are quantized: which of the methods does it, and what it takes. */

import { HISTOGRAM_BINS } from "../../quant/scale_search.ts";
import { type ChunkGrid, chunkRect } from "../chunk_grid.ts";
import { quantizeGrid, segmentGrid } from "../quantize_grid.ts";
import { CHUNK_SLACK_BYTES, type TaskKind } from "../task_kind.ts";
import { elementBytes, isTeamTask, type QuantizeTask } from "../tasks.ts";
import { gptqLayer, gptqScratchBytes, gptqSharedBytes } from "./gptq_chunk.ts";
import {
  learnedChunk,
  learnedLayer,
  learnedScratchBytes,
  learnedSharedBytes,
} from "./learned_chunk.ts";
import { decodeScratchBytes } from "./load_rect.ts";
import { keepsMerged, quantizeChunk, tileRows } from "./quantize_chunk.ts";
import { gpuScratchBytes } from "./quantize_on_gpu.ts";
import { levelsChunkBytes, quantizeLevelsChunk } from "./quantize_levels_chunk.ts";
import { quipLayer, quipScratchBytes, quipSharedBytes } from "./quip_chunk.ts";
import { streamGroup } from "./stream_group.ts";

/** A float matrix becomes codes and scales. */
export const QUANTIZE: TaskKind<QuantizeTask> = {
  matrices: ({ source }) => [source],
  readsAgain: (task) => isTeamTask(task) || task.learned !== undefined,
  needsLinalg: (task) => isTeamTask(task) || task.learned !== undefined,
  grid: quantizeGrid,
  scratchBytes: (task, grid) => quantizeScratchBytes(task, grid) + CHUNK_SLACK_BYTES,
  sharedBytes(task) {
    const { transform, compensation, learned } = task;
    if (transform !== undefined) return quipSharedBytes(task, transform);
    if (compensation === null) return 0;
    if (learned !== undefined) return learnedSharedBytes(task, { compensation, learned });
    return gptqSharedBytes(task, compensation);
  },
  runChunk(context, task, { rect, grid }) {
    if (isTeamTask(task)) throw new TypeError(`Cannot do ${task.name} by one worker`);
    if (task.learned !== undefined) learnedChunk(context, task, task.learned);
    else if (task.levels !== undefined) quantizeLevelsChunk(context, task, task.levels, rect);
    else if (grid.streamed) streamGroup(context, task, rect);
    else quantizeChunk(context, task, rect);
  },
  runTogether(team, task) {
    const { transform, compensation, learned } = task;
    if (transform !== undefined) quipLayer(team, task, transform);
    else if (learned !== undefined && compensation !== null) {
      learnedLayer(team, task, { compensation, learned });
    } else if (compensation !== null) gptqLayer(team, task, compensation);
  },
};

function quantizeScratchBytes(task: QuantizeTask, grid: ChunkGrid): number {
  if (task.transform !== undefined) return quipScratchBytes(task, task.transform);
  if (task.learned !== undefined) {
    const streaming = task.compensation === null ? 0 : streamBytes(task);
    return Math.max(learnedScratchBytes(task, task.learned), streaming);
  }
  if (task.compensation !== null) return Math.max(gptqScratchBytes(task), streamBytes(task));
  if (task.levels !== undefined) return levelsChunkBytes(task, task.levels, grid);
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
