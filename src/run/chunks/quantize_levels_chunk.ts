/**
 * Rounds one chunk to the levels of a format that is no INT8: whole rows, whose scale is that of INT8, and whose
 * groups of columns each get the set of levels that suits them best. Memory and order are those of
 * `quantize_chunk.ts`.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { levelGroupCols } from "../../quant/level_grid.ts";
import { type Grid, STATS } from "../../backend/backend.ts";
import { errorSums } from "../layer_statistics.ts";
import { levelsBound } from "../checks/quantize_check.ts";
import { bytesOf } from "../../core/bytes.ts";
import { type ChunkGrid, chunkRect, type Rect } from "../chunk_grid.ts";
import type { QuantizeTask, TaskLevels } from "../tasks.ts";
import { type ChunkContext, type Scratch, takeNumbers } from "./chunk_context.ts";
import { loadTables, planTables, planWrite, writeLevels } from "./levels_on_file.ts";
import { decodeRect, planDecode, rawBytes, rawRows, readRect } from "./load_rect.ts";
import { planLocalPairs, withLocalPairs } from "./merge_rect.ts";
import { oneSet, planRoundToLevels, roundToLevels } from "./level_scales.ts";
import { errorRotatedBack, holdToBound, reportNonFinite, tileRows } from "./quantize_chunk.ts";
import { planOnGpu, quantizeOnGpu } from "./quantize_on_gpu.ts";

/** Reads, rounds and writes `rect`. Stops early at NaN or infinity, which the slot then reports. */
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
  const room = roomForChunk(scratch, task, rect, tables.groupCols), step = tileRows(task, rect);
  const { raw, codes, choices, scales, x, stats } = room;

  readRect(context, raw, source, rect);
  const rounding = tables.rounding ?? oneSet(tables, task.scaleSearch);
  const isRounded = quantizeOnGpu(context, { ...task, source }, {
    ...{ rect, raw, codes, scales },
    levels: { rounding, choices },
  });
  if (isRounded && rounding.kind === "one") choices.fill(0);
  for (let row = 0; row < rect.rows; row += step) {
    const rows = Math.min(step, rect.rows - row), count = rows * cols;
    const tile = { ...rect, row: rect.row + row, rows };
    const grid: Grid = { rows, cols, groupRows: 1, groupCols: cols };
    const values = x.subarray(0, count), tileRaw = rawRows(raw, source, { rect, row, rows });
    const decode = () => decodeRect(context, values, tileRaw, source, tile);
    decode();
    const own = {
      codes: codes.subarray(row * cols, row * cols + count),
      scales: scales.subarray(row, row + rows),
      choices: choices.subarray(row * across, (row + rows) * across),
    };
    if (convrotGroupSize !== null) kernels.rotate(values, convrotGroupSize);
    const onLevels = { ...own, x: values, grid, tables };
    if (!isRounded) roundToLevels(context, levels.scheme, onLevels, task.scaleSearch);
    const measured = { x: values, stats: errorSums(stats) };
    const error = errorRotatedBack(
      context,
      task,
      measured,
      (sums) => kernels.codeErrors(values, sums, own.codes, own.scales, grid),
    );
    // NaN and infinity show in the sums: only then are they looked for.
    if (!Number.isFinite(stats[STATS.squaredSignal])) {
      decode();
      if (reportNonFinite(context, values, tile, source.cols)) return;
    }
    if (!isRounded) continue;
    const most = levelsBound(levels.scheme, own.scales, cols, task.scaleSearch);
    holdToBound(context, task, error, most);
  }
  context.slot.set(stats);
  writeLevels(context, { ...task, levels }, rect, { levels: codes, choices, tables });
  context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * rect.row);
}

/** Memory of a chunk besides its tables, and what is taken on the way. */
function roomForChunk(scratch: Scratch, task: QuantizeTask, rect: Rect, groupCols: number) {
  const tile = tileRows(task, rect) * rect.cols;
  return {
    raw: scratch.u8(rawBytes(task.source, rect)),
    codes: scratch.i8(rect.rows * rect.cols),
    choices: scratch.u8(rect.rows * (rect.cols / groupCols)),
    scales: scratch.f32(rect.rows),
    x: scratch.f32(tile),
    stats: takeNumbers({ scratch }),
  };
}

/** Counts what {@link quantizeLevelsChunk} takes. */
export function planLevelsChunk(
  memory: CountedMemory,
  task: QuantizeTask,
  levels: TaskLevels,
  grid: ChunkGrid,
): void {
  const { source } = task, rect = chunkRect(grid, 0);
  planLocalPairs(memory, source);
  planTables(memory, levels);
  roomForChunk(memory, task, rect, levelGroupCols(levels.scheme));
  planOnGpu(memory, task, rect);
  planDecode(memory, source, { rows: tileRows(task, rect), cols: rect.cols }, { areLocal: true });
  planRoundToLevels(memory, levels.scheme, task.scaleSearch);
  planWrite(memory, levels, rect);
}
