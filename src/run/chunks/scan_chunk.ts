/** Counts the values of a chunk that cannot be quantized or cast. */

import type { TaskKind } from "../task_kind.ts";
import { alignedRowGrid } from "../chunk_grid.ts";
import type { Rect } from "../chunk_grid.ts";
import type { CastTask, ScanTask } from "../tasks.ts";
import { setNonFinite } from "../layer_statistics.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { decodeRect, planDecodedRect, readRect, roomForRect } from "./load_rect.ts";

/** Values that cannot be quantized or cast are counted. */
export const SCAN: TaskKind<ScanTask> = {
  matrices: ({ source }) => [source],
  grid: ({ source }) => alignedRowGrid([source]),
  planMemory: ({ own }, { source }, grid) => planDecodedRect(own, source, grid),
  runChunk: (context, task, { rect }) => scanChunk(context, task, rect),
};

/** Reads `rect` and reports what {@link scanValues} finds. */
function scanChunk(context: ChunkContext, task: ScanTask, rect: Rect): void {
  const { raw, x } = roomForRect(context.scratch, task.source, rect);
  readRect(context, raw, task.source, rect);
  decodeRect(context, x, raw, task.source, rect);
  scanValues(context, task, x, { limit: task.limit, rect });
}

/**
 * Counts NaN, infinities and magnitudes above `limit` (Infinity: only the former) into the slot, with
 * the flat index of the first in the matrix of `task`, of which `values` is the rectangle `rect`.
 */
export function scanValues(
  context: ChunkContext,
  { kind, source }: ScanTask | CastTask,
  values: Float32Array,
  { limit, rect }: { limit: number; rect: Rect },
): void {
  let first = -1;
  let count = 0;
  if (limit === Infinity) {
    ({ count, first } = context.kernels.countNonFinite(values));
  } else {
    for (let i = 0; i < values.length; i++) {
      if (Math.abs(values[i]!) <= limit) continue; // false for NaN
      if (first < 0) first = i;
      count++;
    }
  }
  if (count === 0) return;
  const row = rect.row + Math.floor(first / rect.cols);
  const at = row * source.cols + rect.col + (first % rect.cols);
  setNonFinite(kind, context.slot, { count, first: at });
}
