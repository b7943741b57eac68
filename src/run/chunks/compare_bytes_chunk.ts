/** Counts the bytes that differ between two ranges. */

import { chunkRect, COPY_BYTES, type Rect, rowGrid } from "../chunk_grid.ts";
import { bytesAt, type TaskKind } from "../task_kind.ts";
import type { CompareBytesTask } from "../tasks.ts";
import { SLOT } from "../layer_statistics.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

/** Bytes that differ are counted. */
export const COMPARE_BYTES: TaskKind<CompareBytesTask> = {
  matrices: () => [],
  reads: ({ file, offsetBytes, otherFile, otherOffsetBytes, byteLength }) => [
    bytesAt(file, offsetBytes, byteLength),
    bytesAt(otherFile, otherOffsetBytes, byteLength),
  ],
  inputBytes: ({ byteLength }) => byteLength,
  grid: ({ byteLength }) => rowGrid(1, byteLength, COPY_BYTES),
  planMemory: ({ own }, _task, grid) => roomFor(own, chunkRect(grid, 0)),
  runChunk: (context, task, { rect }) => compareBytes(context, task, rect),
};

function roomFor(scratch: Pick<Scratch, "u8">, { cols }: Rect) {
  return { a: scratch.u8(cols), b: scratch.u8(cols) };
}

/** Counts the bytes of a chunk that differ. */
function compareBytes(context: ChunkContext, task: CompareBytesTask, rect: Rect): void {
  const { a, b } = roomFor(context.scratch, rect);
  context.read(task.file, a, task.offsetBytes + rect.col);
  context.read(task.otherFile, b, task.otherOffsetBytes + rect.col);
  let different = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) different++;
  context.slot[SLOT.compareBytes.different] = different;
}
