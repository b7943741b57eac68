/**
 * Rounds one chunk to the levels of a format that is no INT8: whole rows, whose scale is that of INT8, and whose
 * groups of columns each get the set of levels that suits them best. Memory and order are those of
 * `quantize_chunk.ts`.
 */

import type { Grid } from "../../backend/backend.ts";
import { bytesOf } from "../../core/bytes.ts";
import { type ChunkGrid, chunkRect, type Rect } from "../chunk_grid.ts";
import { elementBytes, type QuantizeTask, type TaskLevels } from "../tasks.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { chooseLevels, chooseLevelsBytes } from "./level_scales.ts";
import { levelBytes, loadTables, writeLevels } from "./levels_on_file.ts";
import { decodeRect, decodeScratchBytes, rawBytes, rawRows, readRect } from "./load_rect.ts";
import { withLocalPairs } from "./merge_rect.ts";
import { addErrors, keepsMerged, reportNonFinite, tileRows } from "./quantize_chunk.ts";

/** Reads, rounds and writes `rect`. Stops early, leaving the slot to tell, at NaN or infinity. */
export function quantizeLevelsChunk(
  context: ChunkContext,
  task: QuantizeTask,
  levels: TaskLevels,
  rect: Rect,
): void {
  const { scratch, kernels } = context;
  const { cols } = rect, { convrotGroupSize } = task;
  const source = withLocalPairs(context, task.source);
  const tables = loadTables(context, levels), across = cols / tables.groupCols;
  const raw = scratch.u8(rawBytes(source, rect));
  const codes = scratch.i8(rect.rows * cols), choices = scratch.u8(rect.rows * across);
  const scales = scratch.f32(rect.rows);
  const step = tileRows(task, rect);
  const x = scratch.f32(step * cols), xhat = scratch.f32(step * cols);
  const merged = keepsMerged(task) ? scratch.f32(step * cols) : null;
  const stats = takeNumbers(context);

  readRect(context, raw, source, rect);
  for (let row = 0; row < rect.rows; row += step) {
    const rows = Math.min(step, rect.rows - row), count = rows * cols;
    const tile = { ...rect, row: rect.row + row, rows };
    const grid: Grid = { rows, cols, groupRows: 1, groupCols: cols };
    const values = x.subarray(0, count), tileRaw = rawRows(raw, source, { rect, row, rows });
    decodeRect(context, values, tileRaw, source, tile);
    if (reportNonFinite(context, values, tile, source.cols)) return;
    const original = merged?.subarray(0, count);
    original?.set(values);
    const own = {
      codes: codes.subarray(row * cols, row * cols + count),
      scales: scales.subarray(row, row + rows),
      choices: choices.subarray(row * across, (row + rows) * across),
    };
    if (convrotGroupSize !== null) kernels.rotate(values, convrotGroupSize);
    const onLevels = { ...own, x: values, grid, tables };
    chooseLevels(context, levels.scheme, onLevels, task.scaleSearch);
    kernels.quantizeLevels(own.codes, values, own.scales, grid, {
      ...tables,
      choices: own.choices,
    });
    addErrors(context, task, {
      x: values,
      xhat: xhat.subarray(0, count),
      codes: own.codes,
      scales: own.scales,
      grid,
      stats,
      restore: () => {
        if (original === undefined) decodeRect(context, values, tileRaw, source, tile);
        else values.set(original);
      },
    });
  }
  context.slot.set(stats);
  writeLevels(context, { ...task, levels }, rect, { levels: codes, choices, tables });
  context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * rect.row);
}

/** Bytes of scratch that {@link quantizeLevelsChunk} takes. */
export function levelsChunkBytes(task: QuantizeTask, levels: TaskLevels, grid: ChunkGrid): number {
  const rect = chunkRect(grid, 0), elements = rect.rows * rect.cols;
  return elements * (elementBytes(task.source.dtype) + 1) + 4 * rect.rows +
    (keepsMerged(task) ? 12 : 8) * tileRows(task, rect) * rect.cols +
    levelBytes(levels, elements) + chooseLevelsBytes(rect.cols) +
    decodeScratchBytes(task.source, grid.rowStep);
}
