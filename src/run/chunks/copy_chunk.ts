/** Moves bytes as they are. */

import { chunkRect, COPY_BYTES, type Rect, rowGrid } from "../chunk_grid.ts";
import { bytesAt, type TaskKind } from "../task_kind.ts";
import type { CopyTask } from "../tasks.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

/** Bytes that a copy moves at a time. */
const COPY_BLOCK_BYTES = 128 << 10;

/** Bytes are moved as they are. */
export const COPY: TaskKind<CopyTask> = {
  matrices: () => [],
  reads: ({ file, offsetBytes, byteLength }) => [bytesAt(file, offsetBytes, byteLength)],
  grid: ({ byteLength }) => rowGrid(1, byteLength, COPY_BYTES),
  planMemory: ({ own }, _task, grid) => void roomFor(own, chunkRect(grid, 0)),
  runChunk: (context, task, { rect }) => copyChunk(context, task, rect),
};

function roomFor(scratch: Pick<Scratch, "u8">, { cols }: Rect): Uint8Array {
  return scratch.u8(Math.min(COPY_BLOCK_BYTES, cols));
}

/** In blocks that stay in a core's cache between reading and writing, which large ones do not. */
function copyChunk(context: ChunkContext, task: CopyTask, rect: Rect): void {
  const block = roomFor(context.scratch, rect);
  for (let done = 0; done < rect.cols; done += block.length) {
    const bytes = block.subarray(0, Math.min(block.length, rect.cols - done));
    context.read(task.file, bytes, task.offsetBytes + rect.col + done);
    context.write(bytes, task.outOffsetBytes + rect.col + done);
  }
}
