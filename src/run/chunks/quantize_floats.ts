/**
 * Rounds a weight to floats of 8 or 4 bits (`quant/float_grid.ts`), as one chunk: its largest value decides its
 * scale, so that one worker reads it twice, in bands of rows. Rows and scales are padded as the hardware reads
 * them: scales in tiles of 128 rows x 4, stored `[R / 128, C / 4, 32, 4, 4]`.
 */

import { FLOAT_GROUP_COLS, type FloatRounding, STATS } from "../../backend/backend.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import { wholeScale } from "../../quant/float_grid.ts";
import type { Rect } from "../chunk_grid.ts";
import { floatsBound } from "../checks/floats_check.ts";
import { errorSums } from "../layer_statistics.ts";
import type { Scratch } from "../scratch.ts";
import type { QuantizeTask, TaskFloats } from "../tasks.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { floatsOnGpu, floatValues } from "./floats_on_gpu.ts";
import { decodeRect, planDecode, rawBytes, rawRows, readRect } from "./load_rect.ts";
import { planLocalPairs, withLocalPairs } from "./merge_rect.ts";
import { holdToBound, reportNonFinite } from "./quantize_chunk.ts";
import { planOnGpu } from "./quantize_on_gpu.ts";

/** Rows and columns of a tile of scales, and its bytes. */
const TILE_ROWS = 128, TILE_COLS = 4, TILE_BYTES = TILE_ROWS * TILE_COLS;

/** Reads, rounds and writes a whole weight. Stops early, leaving the slot to tell, at NaN or infinity. */
export function quantizeFloats(
  context: ChunkContext,
  task: QuantizeTask,
  floats: TaskFloats,
): void {
  const { rows, cols } = task.source, { kind } = floats.scheme;
  const source = withLocalPairs(context, task.source);
  const room = roomForBand(context.scratch, task, floats);
  const layer: Layer = { task: { ...task, source }, floats, room };
  const height = bandRows(task);
  const bands = Array.from({ length: Math.ceil(rows / height) }, (_, band): Rect => {
    const row = band * height;
    return { row, col: 0, rows: Math.min(height, rows - row), cols };
  });
  // Groups with scales of their own alone need no scale of the whole weight.
  const absmax = kind === "e4m3Groups" ? 0 : largestOf(context, layer, bands);
  if (absmax === null) return;
  const scale = wholeScale(kind, absmax);
  for (const rect of bands) {
    if (!roundBand(context, layer, rect, { kind, scale, search: task.scaleSearch })) return;
  }
  // What was there of the file before is undefined: rows of the padding are zeros.
  const rowBytes = rowBytesOf(task, floats);
  const padding = new Uint8Array((floats.paddedRows - rows) * rowBytes);
  if (padding.length > 0) context.write(padding, task.codesOffsetBytes + rows * rowBytes);
  context.slot.set(room.stats);
  const one = kind === "e4m3" ? task.scalesOffsetBytes : floats.wholeScaleOffsetBytes;
  if (one !== null) context.write(bytesOf(Float32Array.of(scale)), one);
}

/** A weight, its pairs where the kernels reach them, and memory for a band of it. */
interface Layer {
  readonly task: QuantizeTask;
  readonly floats: TaskFloats;
  readonly room: ReturnType<typeof roomForBand>;
}

/** Rows that are read at once: a tile of scales, or as many of them as suit the GPU. */
function bandRows({ source: { rows, cols }, onGpu }: QuantizeTask): number {
  const tiles = Math.floor((onGpu?.chunkElements ?? 0) / (TILE_ROWS * cols));
  return Math.min(rows, Math.max(1, tiles) * TILE_ROWS);
}

function readBand(
  context: ChunkContext,
  { task: { source }, room }: Layer,
  rect: Rect,
): Uint8Array {
  const raw = room.raw.subarray(0, rawBytes(source, rect));
  readRect(context, raw, source, rect);
  return raw;
}

/** The tiles of a band, with their values one after the other in the same memory. Ends early at NaN or infinity. */
function* tilesOf(
  context: ChunkContext,
  { task: { source }, room }: Layer,
  rect: Rect,
  raw: Uint8Array,
) {
  for (let row = 0; row < rect.rows; row += TILE_ROWS) {
    const rows = Math.min(TILE_ROWS, rect.rows - row),
      tile = { ...rect, row: rect.row + row, rows };
    const x = room.x.subarray(0, rows * rect.cols);
    decodeRect(context, x, rawRows(raw, source, { rect, row, rows }), source, tile);
    const isFinite = !reportNonFinite(context, x, tile, rect.cols);
    yield { x, tile, isFinite };
    if (!isFinite) return;
  }
}

/** The largest magnitude of a weight; null: a value is NaN or infinite. */
function largestOf(context: ChunkContext, layer: Layer, bands: readonly Rect[]): number | null {
  const { largest } = layer.room;
  let absmax = 0;
  for (const band of bands) {
    const raw = readBand(context, layer, band);
    for (const { x, tile: { rows, cols }, isFinite } of tilesOf(context, layer, band, raw)) {
      if (!isFinite) return null;
      context.kernels.absmax(largest, x, { rows, cols, groupRows: rows, groupCols: cols });
      absmax = Math.max(absmax, largest[0]!);
    }
  }
  return absmax;
}

/**
 * Rounds a band, measures its errors, writes its codes, and the scales of its groups in tiles. False: a value is NaN
 * or infinite.
 */
function roundBand(
  context: ChunkContext,
  layer: Layer,
  rect: Rect,
  rounding: FloatRounding,
): boolean {
  const { task, floats, room } = layer, { cols } = rect, rowBytes = rowBytesOf(task, floats);
  const across = cols / (FLOAT_GROUP_COLS[rounding.kind] ?? Infinity);
  const raw = readBand(context, layer, rect);
  const codes = room.codes.subarray(0, rect.rows * rowBytes);
  const groupScales = room.groupScales.subarray(0, rect.rows * across);
  const isRounded = floatsOnGpu(context, task, { rect, raw, codes, groupScales, rounding });
  for (const { x, tile, isFinite } of tilesOf(context, layer, rect, raw)) {
    if (!isFinite) return false;
    const row = tile.row - rect.row, end = row + tile.rows;
    roundTile(context, layer, {
      x,
      codes: codes.subarray(row * rowBytes, end * rowBytes),
      groupScales: groupScales.subarray(row * across, end * across),
      isRounded,
      rounding,
    });
  }
  context.write(codes, task.codesOffsetBytes + rect.row * rowBytes);
  for (let row = 0; across > 0 && row < rect.rows; row += TILE_ROWS) {
    const own = groupScales.subarray(row * across, (row + TILE_ROWS) * across);
    const tiles = inTiles(room.tiles, own, across);
    context.write(tiles, task.scalesOffsetBytes + ((rect.row + row) / TILE_ROWS) * tiles.length);
  }
  return true;
}

/** Rounds a tile, unless the GPU did, and adds its errors. */
function roundTile(
  context: ChunkContext,
  { task, room }: Layer,
  { x, codes, groupScales, isRounded, rounding }: {
    readonly x: Float32Array;
    readonly codes: Uint8Array;
    readonly groupScales: Uint8Array;
    readonly isRounded: boolean;
    readonly rounding: FloatRounding;
  },
): void {
  const { kernels } = context, stats = errorSums(room.stats);
  const values = room.values.subarray(0, x.length);
  if (!isRounded) {
    kernels.roundFloats(codes, groupScales, values, x, rounding);
    return kernels.errorStats(stats, x, values);
  }
  const scaleSquares = floatValues(values, codes, groupScales, rounding);
  const error = stats[STATS.squaredError]!, signal = stats[STATS.squaredSignal]!;
  kernels.errorStats(stats, x, values);
  const squares = stats[STATS.squaredSignal]! - signal, count = x.length;
  const most = floatsBound(rounding, { count, squares, scaleSquares });
  holdToBound(context, task, stats[STATS.squaredError]! - error, most);
}

/** Puts scales of the rows of a tile in the order of the file. */
function inTiles(into: Uint8Array, scales: Uint8Array, across: number): Uint8Array {
  const tiles = into.fill(0);
  for (let r = 0, i = 0; i < scales.length; r++) {
    for (let g = 0; g < across; g++) tiles[tileOffset(r, g)] = scales[i++]!;
  }
  return tiles;
}

function rowBytesOf({ source: { cols } }: QuantizeTask, { scheme }: TaskFloats): number {
  return scheme.kind === "e2m1Groups" ? cols / 2 : cols;
}

/** Where the scale of row `r` and group `g` stands in the tiles of a band. */
function tileOffset(r: number, g: number): number {
  const tile = Math.floor(g / TILE_COLS) * TILE_BYTES;
  return tile + (r % 32) * 16 + Math.floor(r / 32) * TILE_COLS + g % TILE_COLS;
}

function roomForBand(scratch: Scratch, task: QuantizeTask, floats: TaskFloats) {
  const { source: { rows, cols } } = task, height = bandRows(task);
  const count = Math.min(TILE_ROWS, rows) * cols;
  const across = cols / (FLOAT_GROUP_COLS[floats.scheme.kind] ?? Infinity);
  return {
    raw: scratch.u8(rawBytes(task.source, { row: 0, col: 0, rows: height, cols })),
    x: scratch.f32(count),
    values: scratch.f32(count),
    codes: scratch.u8(height * rowBytesOf(task, floats)),
    groupScales: scratch.u8(height * across),
    tiles: scratch.u8(Math.ceil(across / TILE_COLS) * TILE_BYTES),
    largest: scratch.f32(1),
    stats: takeNumbers({ scratch }),
  };
}

/** Counts what {@link quantizeFloats} takes. */
export function planFloats(memory: CountedMemory, task: QuantizeTask, floats: TaskFloats): void {
  const { source } = task, { rows, cols } = source;
  planLocalPairs(memory, source);
  roomForBand(memory, task, floats);
  planOnGpu(memory, task, { rows: bandRows(task), cols });
  planDecode(memory, source, { rows: Math.min(TILE_ROWS, rows), cols }, { areLocal: true });
}
