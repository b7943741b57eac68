/** Counts the values of a chunk that cannot be quantized or cast. */

import { decodingBytes } from "./load_rect.ts";
import type { TaskKind } from "../task_kind.ts";
import { alignedRowGrid } from "../chunk_grid.ts";
import type { Rect } from "../chunk_grid.ts";
import type { ScanTask } from "../tasks.ts";
import { type ChunkContext, SLOT } from "./chunk_context.ts";
import { decodeRect, rawBytes, readRect } from "./load_rect.ts";

/** Values that cannot be quantized or cast are counted. */
export const SCAN: TaskKind<ScanTask> = {
  matrices: ({ source }) => [source],
  grid: ({ source }) => alignedRowGrid([source]),
  scratchBytes: decodingBytes,
  runChunk: (context, task, { rect }) => scanChunk(context, task, rect),
};

/** Reads `rect` and reports what {@link scanValues} finds. */
export function scanChunk(context: ChunkContext, task: ScanTask, rect: Rect): void {
  const raw = context.scratch.u8(rawBytes(task.source, rect));
  const x = context.scratch.f32(rect.rows * rect.cols);
  readRect(context, raw, task.source, rect);
  decodeRect(context, x, raw, task.source, rect);
  scanValues(context, x, { limit: task.limit, rect, cols: task.source.cols });
}

/**
 * Counts NaN, infinities and magnitudes above `limit` (Infinity: only the former) into the slot, with
 * the flat index of the first in a matrix of `cols` columns of which `values` is the rectangle `rect`.
 */
export function scanValues(
  context: ChunkContext,
  values: Float32Array,
  { limit, rect, cols }: { limit: number; rect: Rect; cols: number },
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
  context.slot[SLOT.nonFinite] = count;
  context.slot[SLOT.firstNonFinite] = (rect.row + Math.floor(first / rect.cols)) * cols +
    rect.col + (first % rect.cols);
}
