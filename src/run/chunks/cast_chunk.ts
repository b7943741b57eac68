/** Casts a chunk to another float type: `--fp16`, `dequantize`. */

import type { TaskKind } from "../task_kind.ts";
import { alignedRowGrid, chunkRect } from "../chunk_grid.ts";
import { f32ToBf16 } from "../../core/dtype.ts";
import { type CastTask, elementBytes } from "../tasks.ts";
import type { Rect } from "../chunk_grid.ts";
import { bytesOf } from "../../core/bytes.ts";
import { nonFiniteOf } from "../layer_statistics.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { decodeRect, planDecodedRect, readRect, roomForRect } from "./load_rect.ts";
import { scanValues } from "./scan_chunk.ts";

/** Largest finite F16. */
export const F16_MAX = 65504;

/** Values become those of another float type. */
export const CAST: TaskKind<CastTask> = {
  matrices: ({ source }) => [source],
  grid: ({ source }) => alignedRowGrid([source]),
  planMemory({ own }, { source, dtype }, grid) {
    planDecodedRect(own, source, grid);
    const { rows, cols } = chunkRect(grid, 0);
    if (dtype !== "F32") own.u16(rows * cols);
  },
  runChunk: (context, task, { rect }) => castChunk(context, task, rect),
};

/** Reads, casts and writes `rect`. Stops at a value that F16 cannot hold, which the slot then reports. */
function castChunk(context: ChunkContext, task: CastTask, rect: Rect): void {
  const { kernels, scratch } = context;
  const count = rect.rows * rect.cols;
  const { raw, x } = roomForRect(scratch, task.source, rect);
  readRect(context, raw, task.source, rect);
  decodeRect(context, x, raw, task.source, rect);
  const at = task.outOffsetBytes +
    (rect.row * task.source.cols + rect.col) * elementBytes(task.dtype);
  if (task.dtype === "F32") {
    context.write(bytesOf(x), at);
    return;
  }
  const out = scratch.u16(count);
  if (task.dtype === "BF16") {
    for (let i = 0; i < count; i++) out[i] = f32ToBf16(x[i]!);
  } else {
    scanValues(context, task, x, { limit: F16_MAX, rect });
    if (nonFiniteOf(task.kind, context.slot).count > 0) return;
    kernels.castF16(out, x);
  }
  context.write(bytesOf(out), at);
}
