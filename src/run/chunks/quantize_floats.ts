/**
 * Rounds a weight to floats of 8 or 4 bits (`quant/float_grid.ts`), as one chunk: its largest value decides its
 * scale, so that one worker reads it twice, in bands of rows. Rows and scales are padded as the hardware reads
 * them: scales in tiles of 128 rows x 4, stored `[R / 128, C / 4, 32, 4, 4]`.
 */

import { FLOAT_GROUP_COLS, STATS_LENGTH } from "../../backend/backend.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import { wholeScale } from "../../quant/float_grid.ts";
import type { Rect } from "../chunk_grid.ts";
import type { Scratch } from "../scratch.ts";
import type { QuantizeTask, TaskFloats } from "../tasks.ts";
import { type ChunkContext, takeNumbers } from "./chunk_context.ts";
import { decodeRect, planDecode, rawBytes, readRect } from "./load_rect.ts";
import { withLocalPairs } from "./merge_rect.ts";
import { reportNonFinite } from "./quantize_chunk.ts";

/** Rows of a band: those of a tile of scales. */
const BAND_ROWS = 128;

/** Columns of a tile of scales, and its bytes. */
const TILE_COLS = 4, TILE_BYTES = BAND_ROWS * TILE_COLS;

/** Reads, rounds and writes a whole weight. Stops early, leaving the slot to tell, at NaN or infinity. */
export function quantizeFloats(
  context: ChunkContext,
  task: QuantizeTask,
  floats: TaskFloats,
): void {
  const { rows, cols } = task.source, { kind } = floats.scheme;
  const source = withLocalPairs(context, task.source);
  const room = roomForBand(context.scratch, task, floats);
  const bands = Array.from({ length: Math.ceil(rows / BAND_ROWS) }, (_, band): Rect => {
    const row = band * BAND_ROWS;
    return { row, col: 0, rows: Math.min(BAND_ROWS, rows - row), cols };
  });
  const load = (rect: Rect): Float32Array | null => {
    const raw = room.raw.subarray(0, rawBytes(source, rect));
    const x = room.x.subarray(0, rect.rows * cols);
    readRect(context, raw, source, rect);
    decodeRect(context, x, raw, source, rect);
    return reportNonFinite(context, x, rect, cols) ? null : x;
  };
  let absmax = 0;
  // Groups with scales of their own alone need no scale of the whole weight.
  for (const rect of kind === "e4m3Groups" ? [] : bands) {
    const x = load(rect);
    if (x === null) return;
    const whole = { rows: rect.rows, cols, groupRows: rect.rows, groupCols: cols };
    context.kernels.absmax(room.largest, x, whole);
    absmax = Math.max(absmax, room.largest[0]!);
  }
  const scale = wholeScale(kind, absmax);
  for (const rect of bands) {
    const x = load(rect);
    if (x === null) return;
    roundBand(context, x, room, { task, floats, rect, scale });
  }
  // What was there of the file before is undefined: rows of the padding are zeros.
  const rowBytes = rowBytesOf(task, floats);
  const padding = new Uint8Array((floats.paddedRows - rows) * rowBytes);
  if (padding.length > 0) context.write(padding, task.codesOffsetBytes + rows * rowBytes);
  context.slot.set(room.stats);
  const one = kind === "e4m3" ? task.scalesOffsetBytes : floats.wholeScaleOffsetBytes;
  if (one !== null) context.write(bytesOf(Float32Array.of(scale)), one);
}

/** Rounds a band, measures its errors, writes its codes, and the scales of its groups in tiles. */
function roundBand(
  context: ChunkContext,
  x: Float32Array,
  room: ReturnType<typeof roomForBand>,
  { task, floats, rect, scale }: {
    readonly task: QuantizeTask;
    readonly floats: TaskFloats;
    readonly rect: Rect;
    readonly scale: number;
  },
): void {
  const { kind } = floats.scheme, rowBytes = rowBytesOf(task, floats), { cols } = rect;
  const across = cols / (FLOAT_GROUP_COLS[kind] ?? Infinity);
  const codes = room.codes.subarray(0, rect.rows * rowBytes);
  const groupScales = room.groupScales.subarray(0, rect.rows * across);
  const values = room.values.subarray(0, x.length);
  context.kernels.roundFloats(codes, groupScales, values, x, {
    kind,
    scale,
    search: task.scaleSearch,
  });
  context.kernels.errorStats(room.stats.subarray(0, STATS_LENGTH), x, values);
  context.write(codes, task.codesOffsetBytes + rect.row * rowBytes);
  if (groupScales.length === 0) return;
  const tiles = room.tiles.subarray(0, Math.ceil(across / TILE_COLS) * TILE_BYTES).fill(0);
  for (let r = 0, i = 0; r < rect.rows; r++) {
    for (let g = 0; g < across; g++) tiles[tileOffset(r, g)] = groupScales[i++]!;
  }
  context.write(tiles, task.scalesOffsetBytes + (rect.row / BAND_ROWS) * tiles.length);
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
  const { source: { rows, cols } } = task, height = Math.min(BAND_ROWS, rows);
  const count = height * cols;
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
  const { source } = task;
  roomForBand(memory, task, floats);
  planDecode(memory, source, {
    rows: Math.min(BAND_ROWS, source.rows),
    cols: source.cols,
  });
}
