/**
 * The rows of a band on a grid of few levels (`quant/level_grid.ts`), with error compensation: what
 * `gptq_chunk.ts` does with its bands on INT8.
 */

import { bytesOf } from "../../core/bytes.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { MatrixF32 } from "../../linalg/matrix.ts";
import type { GptqRows } from "../../quant/gptq.ts";
import type { Rect } from "../chunk_grid.ts";
import type { QuantizeTask, TaskLevels } from "../tasks.ts";
import { SLOT } from "../layer_statistics.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { guardRows, type RowMeasures } from "./guard_rows.ts";
import { guardByHeldOut } from "./held_out_guard.ts";
import { chooseLevels, chooseLevelsBytes } from "./level_scales.ts";
import { levelBytes, loadTables, writeLevels } from "./levels_on_file.ts";
import { decodeRect, rawBytes, readRect } from "./load_rect.ts";
import { addErrors, reportNonFinite } from "./quantize_chunk.ts";

/** How the rows of a layer are rounded and judged. */
export interface LevelsLayer {
  readonly task: QuantizeTask & { readonly levels: TaskLevels };
  /** Rounds rows. `weights` may become errors. */
  round(context: ChunkContext, linalg: LinalgContext, rows: GptqRows & { errors: boolean }): void;
  /** How the errors of rows are measured; null: all are rounded to nearest. */
  measures(context: ChunkContext, linalg: LinalgContext): RowMeasures | null;
  /** See `largestShare`. */
  readonly share: number;
  /** Inputs that nothing was fitted to, f32 `[K, inputs]`; null: none, or all rows are rounded to nearest. */
  readonly heldOut: MatrixF32 | null;
}

/** Reads, rounds and writes the rows of `rect`. */
export function quantizeLevelsBand(
  context: ChunkContext,
  linalg: LinalgContext,
  layer: LevelsLayer,
  rect: Rect,
): void {
  const { task, share } = layer;
  const { scratch, kernels } = context;
  const { cols } = task.source, count = rect.rows * cols;
  const grid = { rows: rect.rows, cols, groupRows: 1, groupCols: cols };
  const mark = scratch.mark();
  const tables = loadTables(context, task.levels);
  const raw = scratch.u8(rawBytes(task.source, rect));
  const x = scratch.f32(count), xhat = scratch.f32(count), codes = scratch.i8(count);
  const scales = scratch.f32(rect.rows);
  const choices = scratch.u8(rect.rows * (cols / tables.groupCols));
  const stats = takeNumbers(context);
  readRect(context, raw, task.source, rect);
  const restore = () => decodeRect(context, x, raw, task.source, rect);
  restore();
  if (!reportNonFinite(context, x, rect, cols)) {
    if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    chooseLevels(
      context,
      task.levels.scheme,
      { x, scales, choices, grid, tables },
      task.scaleSearch,
    );
    const levels = { ...tables, choices };
    xhat.set(x); // rounding uses the weights up
    layer.round(context, linalg, {
      weights: x,
      codes,
      firstRow: 0,
      grid,
      scales,
      levels,
      errors: false,
    });
    const measures = layer.measures(context, linalg);
    const rounded = { weights: xhat, codes, scales, plain: scales, grid, share, levels };
    const lost = new Set(measures === null ? [] : guardRows(context, measures, rounded));
    if (layer.heldOut !== null) {
      for (const row of guardByHeldOut(context, linalg, layer.heldOut, rounded)) lost.add(row);
    }
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, { x, xhat, codes, scales, grid, stats, restore });
    writeLevels(context, task, rect, { levels: codes, choices, tables });
    context.slot.set(stats);
    context.slot[SLOT.quantize.rowsToNearest] = lost.size;
    context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * rect.row);
  }
  scratch.release(mark);
}

/** Bytes of scratch of a band of `rows` weights beside those of INT8. */
export function levelsBandBytes(levels: TaskLevels, rows: number, cols: number): number {
  return levelBytes(levels, rows * cols) + chooseLevelsBytes(cols);
}
