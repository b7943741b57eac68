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
import { decodeRect, isAsStored, planDecode, rawBytes, rawRows, readRect } from "./load_rect.ts";
import { changeOfRect, planLocalPairs, withLocalPairs } from "./merge_rect.ts";
import { planOnGpu, quantizeOnGpu } from "./quantize_on_gpu.ts";

/**
 * Rows of the tiles that a rectangle is worked on in: whole groups, about TILE_ELEMENTS. Where LoRAs are merged, by
 * fours, as their products are made of so many rows.
 */
export function tileRows(task: QuantizeTask, rect: Rect): number {
  const bands = Math.max(1, Math.floor(TILE_ELEMENTS / (task.groupRows * rect.cols)));
  const whole = task.source.deltas === undefined ? bands : bands - bands % 4;
  return Math.min(rect.rows, Math.max(1, whole) * task.groupRows);
}

/** Memory of a chunk, besides what is taken on the way. */
function roomForChunk(scratch: Scratch, task: QuantizeTask, rect: Rect) {
  const { source, groupRows, groupCols } = task;
  return {
    raw: scratch.u8(rawBytes(source, rect)),
    codes: scratch.i8(rect.rows * rect.cols),
    scales: scratch.f32((rect.rows / groupRows) * (rect.cols / groupCols)),
    x: scratch.f32(tileRows(task, rect) * rect.cols),
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
  const { raw, codes, scales, x, stats } = roomForChunk(scratch, task, rect);
  const step = tileRows(task, rect);

  readRect(context, raw, source, rect);
  const isRounded = quantizeOnGpu(context, { ...task, source }, { rect, raw, codes, scales });
  for (let row = 0; row < rect.rows; row += step) {
    const rows = Math.min(step, rect.rows - row);
    const tile = { ...rect, row: rect.row + row, rows };
    const grid: Grid = { rows, cols: rect.cols, groupRows, groupCols };
    const values = x.subarray(0, rows * rect.cols);
    const tileRaw = rawRows(raw, source, { rect, row, rows });
    const decode = () => decodeRect(context, values, tileRaw, source, tile);
    const firstGroup = (row / groupRows) * across;
    const part: RoundedTile = {
      raw: tileRaw,
      change: () => changeOfRect(context, values, source, tile),
      x: values,
      codes: codes.subarray(row * rect.cols, row * rect.cols + values.length),
      scales: scales.subarray(firstGroup, firstGroup + groupCount(grid)),
      grid,
      stats: errorSums(stats),
      decode,
    };
    const error = isRounded ? measureTile(context, task, part) : quantizeTile(context, task, part);
    // NaN and infinity show in the sums: only then are they looked for.
    if (!Number.isFinite(stats[STATS.squaredSignal])) {
      decode();
      if (reportNonFinite(context, values, tile, source.cols)) return;
    }
    if (!isRounded) continue;
    const most = roundingBound(part.scales, groupRows * groupCols, task.scaleSearch);
    holdToBound(context, task, error, most);
  }
  context.slot.set(stats);
  writeCodes(context, task, rect, codes);
  writeScales(context, task, rect, scales);
}

/** One cache-sized part of a chunk that is rounded to nearest. */
interface RoundedTile extends Omit<Tile, "xhat" | "restore"> {
  /** The stored values. */
  readonly raw: Uint8Array;
  /** Fills `x` with the values in original space. */
  decode(): void;
  /** Fills `x` with what LoRAs add to the stored values; false if that cannot be had by itself. */
  change(): boolean;
}

/** Rounds a tile and adds its errors, which are then in `x`. Returns the sum of their squares. */
function quantizeTile(context: ChunkContext, task: QuantizeTask, tile: RoundedTile): number {
  const { kernels } = context;
  const { raw, x, codes, scales, grid } = tile;
  const isMerged = task.source.deltas !== undefined, isBf16 = hasBf16Rows(task, grid);
  if (isBf16 && !isMerged && task.convrotGroupSize === null && !task.scaleSearch) {
    return errorAdded(tile, (stats) => kernels.quantizeBf16Rows(codes, scales, stats, raw));
  }
  if (isBf16 && task.convrotGroupSize !== null && (!isMerged || tile.change())) {
    kernels.rotateBf16Rows(x, scales, raw, task.convrotGroupSize, isMerged);
  } else {
    tile.decode();
    if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    kernels.absmax(scales, x, grid);
  }
  kernels.scaleFromAbsmax(scales, scales);
  if (task.scaleSearch) kernels.searchScale(scales, x, grid);
  return errorRotatedBack(
    context,
    task,
    tile,
    (stats) => kernels.quantizeErrors(codes, x, stats, scales, grid),
  );
}

/** Whether rows are BF16 as they are stored, or LoRAs added to them, and have one scale each. */
function hasBf16Rows({ source }: QuantizeTask, { groupRows, groupCols, cols }: Grid): boolean {
  return source.dtype === "BF16" && isAsStored(source) &&
    groupRows === 1 && groupCols === cols;
}

/** Adds the errors of what a GPU made. Returns the sum of their squares. */
function measureTile(context: ChunkContext, task: QuantizeTask, tile: RoundedTile): number {
  const { kernels } = context, { x, codes, scales, grid } = tile;
  tile.decode();
  if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
  return errorRotatedBack(
    context,
    task,
    tile,
    (stats) => kernels.codeErrors(x, stats, codes, scales, grid),
  );
}

/** Ends the run if rounding cannot have left the squared error that a GPU left in a tile. */
export function holdToBound(
  context: ChunkContext,
  task: QuantizeTask,
  error: number,
  most: number,
): void {
  // Not the other way round: the error may be NaN.
  if (!(error <= most)) {
    context.gpu?.distrust(`codes of ${JSON.stringify(task.name)} that are far from its values`);
  }
}

/** Values that become their errors, and the error sums. */
type MeasuredTile = Pick<RoundedTile, "x" | "stats">;

/** Returns what `add` adds to the sum of squared errors. */
function errorAdded({ stats }: MeasuredTile, add: (stats: Float64Array) => void): number {
  const before = stats[STATS.squaredError]!;
  add(stats);
  return stats[STATS.squaredError]! - before;
}

/**
 * The same for errors in the space of the codes, which `add` leaves in `x`. Rotating them back changes no sum of
 * squares, but the largest of them.
 */
export function errorRotatedBack(
  { kernels }: Pick<ChunkContext, "kernels">,
  { convrotGroupSize }: Pick<QuantizeTask, "convrotGroupSize">,
  tile: MeasuredTile,
  add: (stats: Float64Array) => void,
): number {
  const { x, stats } = tile, before = stats[STATS.maxAbsError]!;
  const error = errorAdded(tile, add);
  if (convrotGroupSize === null) return error;
  stats[STATS.maxAbsError] = kernels.rotatedAbsmax(x, convrotGroupSize, before);
  return error;
}

/** Rounded values. */
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
