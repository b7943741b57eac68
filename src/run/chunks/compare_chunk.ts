/** Measures the errors of a stored matrix against its source. */

import type { MatrixSource } from "../../formats/matrix_source.ts";
import { alignedRowGrid, type Rect } from "../chunk_grid.ts";
import type { TaskKind } from "../task_kind.ts";
import type { CompareTask } from "../tasks.ts";
import { errorSums } from "../layer_statistics.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { decodeRect, planDecodedRect, readRect, roomForRect } from "./load_rect.ts";

/** Errors of a stored matrix against its source. */
export const COMPARE: TaskKind<CompareTask> = {
  matrices: ({ reference, stored }) => [reference, stored],
  grid: ({ reference, stored }) => alignedRowGrid([reference, stored]),
  planMemory({ own }, { reference, stored }, grid) {
    planDecodedRect(own, reference, grid);
    planDecodedRect(own, stored, grid);
    takeNumbers({ scratch: own });
  },
  runChunk: (context, task, { rect }) => compareChunk(context, task, rect),
};

function compareChunk(context: ChunkContext, task: CompareTask, rect: Rect): void {
  const { kernels, scratch } = context;
  const load = (matrix: MatrixSource): Float32Array => {
    const { raw, x } = roomForRect(scratch, matrix, rect);
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
