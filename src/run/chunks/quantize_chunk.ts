/**
 * Quantizes one chunk: a rectangle that holds whole scale groups. The bytes of the chunk are read at
 * once; the arithmetic runs on tiles that stay in the cache; codes and scales are written at once.
 *
 * If a GPU made codes and scales, figures are made here all the same, from what goes into the file: what
 * is wrong with it shows in them. Cost: 1.3 ns per element and core, where rounding it here takes 2 ns (BF16,
 * rotated in groups of 256, scale search).
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Grid, groupCount, STATS } from "../../backend/backend.ts";
import { roundingBound } from "../checks/quantize_check.ts";
import { type QuantizeTask, TILE_ELEMENTS } from "../tasks.ts";
import { type ChunkGrid, chunkRect, type Rect } from "../chunk_grid.ts";
import { bytesOf } from "../../core/bytes.ts";
import { errorSums, setNonFinite } from "../layer_statistics.ts";
import { type ChunkContext, type Scratch, takeNumbers } from "./chunk_context.ts";
import { decodeRect, planDecode, rawBytes, rawRows, readRect } from "./load_rect.ts";
import { planLocalPairs, withLocalPairs } from "./merge_rect.ts";
import { planOnGpu, quantizeOnGpu } from "./quantize_on_gpu.ts";

/** Rows of the tiles that a rectangle is worked on in: whole groups, about TILE_ELEMENTS. */
export function tileRows(task: QuantizeTask, rect: Rect): number {
  const bands = Math.floor(TILE_ELEMENTS / (task.groupRows * rect.cols));
  return Math.min(rect.rows, Math.max(1, bands) * task.groupRows);
}

/** Whether the tile is kept as it was before rotation: merging once more costs more than decoding. */
export function keepsMerged(task: QuantizeTask): boolean {
  return task.source.deltas !== undefined && task.convrotGroupSize !== null;
}

/** Memory of a chunk, besides what is taken on the way. */
function roomForChunk(scratch: Scratch, task: QuantizeTask, rect: Rect) {
  const { source, groupRows, groupCols } = task, tile = tileRows(task, rect) * rect.cols;
  return {
    raw: scratch.u8(rawBytes(source, rect)),
    codes: scratch.i8(rect.rows * rect.cols),
    scales: scratch.f32((rect.rows / groupRows) * (rect.cols / groupCols)),
    x: scratch.f32(tile),
    xhat: scratch.f32(tile),
    merged: keepsMerged(task) ? scratch.f32(tile) : null,
    stats: takeNumbers({ scratch }),
  };
}

/** Counts what {@link quantizeChunk} takes. */
export function planChunk(memory: CountedMemory, task: QuantizeTask, grid: ChunkGrid): void {
  const { source } = task, rect = chunkRect(grid, 0);
  planLocalPairs(memory, source);
  roomForChunk(memory, task, rect);
  planOnGpu(memory, task, rect);
  planDecode(memory, source, { rows: tileRows(task, rect), cols: rect.cols }, { areLocal: true });
}

/** Reads, quantizes and writes `rect`. Stops early at NaN or infinity, which the slot then reports. */
export function quantizeChunk(context: ChunkContext, task: QuantizeTask, rect: Rect): void {
  const { scratch } = context;
  const { groupRows, groupCols } = task;
  const source = withLocalPairs(context, task.source);
  const across = rect.cols / groupCols;
  const { raw, codes, scales, x, xhat, merged, stats } = roomForChunk(scratch, task, rect);
  const step = tileRows(task, rect);

  readRect(context, raw, source, rect);
  const isRounded = quantizeOnGpu(context, task, { rect, raw, codes, scales });
  for (let row = 0; row < rect.rows; row += step) {
    const rows = Math.min(step, rect.rows - row);
    const tile = { ...rect, row: rect.row + row, rows };
    const grid: Grid = { rows, cols: rect.cols, groupRows, groupCols };
    const values = x.subarray(0, rows * rect.cols);
    const tileRaw = rawRows(raw, source, { rect, row, rows });
    decodeRect(context, values, tileRaw, source, tile);
    if (reportNonFinite(context, values, tile, source.cols)) return;
    const original = merged?.subarray(0, values.length);
    if (!isRounded) original?.set(values);
    const firstGroup = (row / groupRows) * across;
    const part: Tile = {
      x: values,
      xhat: xhat.subarray(0, values.length),
      codes: codes.subarray(row * rect.cols, row * rect.cols + values.length),
      scales: scales.subarray(firstGroup, firstGroup + groupCount(grid)),
      grid,
      stats,
      // Errors are reported in original space: decode once more instead of keeping a second tile.
      restore: () => {
        if (isRounded) return;
        if (original === undefined) decodeRect(context, values, tileRaw, source, tile);
        else values.set(original);
      },
    };
    if (isRounded) measureTile(context, task, part);
    else quantizeTile(context, task, part);
  }
  context.slot.set(stats);
  writeCodes(context, task, rect, codes);
  writeScales(context, task, rect, scales);
}

/** One cache-sized part of a chunk. */
export interface Tile {
  /** In: values in original space; left undefined. */
  readonly x: Float32Array;
  readonly xhat: Float32Array;
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  readonly grid: Grid;
  readonly stats: Float64Array;
  /** Puts the original values back into `x`. */
  restore(): void;
}

function quantizeTile(context: ChunkContext, task: QuantizeTask, tile: Tile): void {
  const { kernels } = context;
  const { x, codes, scales, grid } = tile;
  if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
  kernels.absmax(scales, x, grid);
  kernels.scaleFromAbsmax(scales, scales);
  if (task.scaleSearch) kernels.searchScale(scales, x, grid);
  kernels.quantize(codes, x, scales, grid);
  addErrors(context, task, tile);
}

/** Adds the errors of what a GPU made, which end the run if rounding cannot have left them. */
function measureTile(context: ChunkContext, task: QuantizeTask, tile: Tile): void {
  const { stats, scales, grid } = tile;
  const before = stats[STATS.squaredError]!;
  addErrors(context, task, tile);
  const most = roundingBound(scales, grid.groupRows * grid.groupCols, task.scaleSearch);
  // Not the other way round: the error may be NaN.
  if (!(stats[STATS.squaredError]! - before <= most)) {
    context.gpu?.distrust(`codes of ${JSON.stringify(task.name)} that are far from its values`);
  }
}

/** Adds the errors of what will be in the file, as the model sees it: dequantized, rotated back. */
export function addErrors(context: ChunkContext, task: QuantizeTask, tile: Tile): void {
  const { kernels } = context;
  kernels.dequantize(tile.xhat, tile.codes, tile.scales, tile.grid);
  if (task.convrotGroupSize !== null) {
    kernels.rotate(tile.xhat, task.convrotGroupSize);
    tile.restore();
  }
  kernels.errorStats(errorSums(tile.stats), tile.x, tile.xhat);
}

/** Whether `values`, the rectangle `rect` of a matrix of `cols` columns, hold NaN or infinity. */
export function reportNonFinite(
  context: ChunkContext,
  values: Float32Array,
  rect: Rect,
  cols: number,
): boolean {
  const found = context.kernels.countNonFinite(values);
  if (found.count === 0) return false;
  const row = rect.row + Math.floor(found.first / rect.cols);
  const first = row * cols + rect.col + (found.first % rect.cols);
  setNonFinite("quantize", context.slot, { count: found.count, first });
  return true;
}

/** Writes the codes of `rect` where the plan put them. */
export function writeCodes(
  context: ChunkContext,
  task: QuantizeTask,
  rect: Rect,
  codes: Int8Array,
): void {
  const { cols } = task.source;
  const at = (row: number) => task.codesOffsetBytes + (rect.row + row) * cols + rect.col;
  if (rect.cols === cols) {
    context.write(bytesOf(codes), at(0));
    return;
  }
  for (let row = 0; row < rect.rows; row++) {
    context.write(bytesOf(codes.subarray(row * rect.cols, (row + 1) * rect.cols)), at(row));
  }
}

function writeScales(
  context: ChunkContext,
  task: QuantizeTask,
  rect: Rect,
  scales: Float32Array,
): void {
  const { groupRows, groupCols } = task;
  const across = task.source.cols / groupCols;
  const width = rect.cols / groupCols;
  const at = (band: number) =>
    task.scalesOffsetBytes + 4 * ((rect.row / groupRows + band) * across + rect.col / groupCols);
  if (width === across) {
    context.write(bytesOf(scales), at(0));
    return;
  }
  for (let band = 0; band < rect.rows / groupRows; band++) {
    context.write(bytesOf(scales.subarray(band * width, (band + 1) * width)), at(band));
  }
}
