/** The largest magnitude of each column of some rows. NaN is ignored: whoever quantizes will meet it. */

import type { TaskKind } from "../task_kind.ts";
import { wholeRowGrid } from "../chunk_grid.ts";
import type { ColumnMaxTask } from "../tasks.ts";
import type { Rect } from "../chunk_grid.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { decodeRect, planDecodedRect, readRect, roomForRect } from "./load_rect.ts";

/** The largest magnitude of each column. */
export const COLUMN_MAX: TaskKind<ColumnMaxTask> = {
  matrices: ({ source }) => [source],
  grid: ({ source }) => wholeRowGrid(source, source),
  planMemory: ({ own }, { source }, grid) => planDecodedRect(own, source, grid),
  runChunk: (context, task, { rect, index }) => columnMaxChunk(context, task, rect, index),
};

/** Reads `rect`, whole rows, and fills row `index` of the task's output. */
function columnMaxChunk(
  context: ChunkContext,
  { source, out }: ColumnMaxTask,
  rect: Rect,
  index: number,
): void {
  const { raw, x } = roomForRect(context.scratch, source, rect);
  readRect(context, raw, source, rect);
  decodeRect(context, x, raw, source, rect);
  const most = out.subarray(index * rect.cols, (index + 1) * rect.cols).fill(0);
  for (let r = 0; r < rect.rows; r++) {
    const row = x.subarray(r * rect.cols, (r + 1) * rect.cols);
    for (let k = 0; k < row.length; k++) {
      const magnitude = Math.abs(row[k]!);
      if (magnitude > most[k]!) most[k] = magnitude;
    }
  }
}
