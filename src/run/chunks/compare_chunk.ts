/** Measures the errors of a stored matrix against its source. */

import type { MatrixSource } from "../../formats/matrix_source.ts";
import { alignedRowGrid, type Rect } from "../chunk_grid.ts";
import { CHUNK_SLACK_BYTES, type TaskKind } from "../task_kind.ts";
import { type CompareTask, elementBytes } from "../tasks.ts";
import { errorSums } from "../layer_statistics.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { decodeRect, decodeScratchBytes, rawBytes, readRect } from "./load_rect.ts";

/** Errors of a stored matrix against its source. */
export const COMPARE: TaskKind<CompareTask> = {
  matrices: ({ reference, stored }) => [reference, stored],
  grid: ({ reference, stored }) => alignedRowGrid([reference, stored]),
  scratchBytes: ({ reference, stored }, { rowStep, colStep }) =>
    rowStep * colStep * (8 + elementBytes(reference.dtype) + elementBytes(stored.dtype)) +
    decodeScratchBytes(reference, rowStep) + decodeScratchBytes(stored, rowStep) +
    CHUNK_SLACK_BYTES,
  runChunk: (context, task, { rect }) => compareChunk(context, task, rect),
};

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
  const stats = takeNumbers(context);
  kernels.errorStats(errorSums(stats), x, xhat);
  context.slot.set(stats);
}
