/**
 * Rounds a weight to floats of 8 or 4 bits (`quant/float_grid.ts`), as one chunk: its largest value decides its
 * scale, so that one worker reads it twice, in bands of rows. Rows and scales are padded as the hardware reads
 * them: scales in tiles of 128 rows x 4, stored `[R / 128, C / 4, 32, 4, 4]`.
 */

import { STATS_LENGTH } from "../../backend/backend.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import {
  e4m3Scale,
  FLOAT_GROUPS,
  nvfp4Scale,
  roundE4m3,
  roundMxfp8,
  roundNvfp4,
} from "../../quant/float_grid.ts";
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
  const { kernels } = context, { rows, cols } = task.source;
  const source = withLocalPairs(context, task.source);
  const room = roomForBand(context.scratch, task, floats);
  const { kind } = floats.scheme, groupCols = FLOAT_GROUPS[kind] ?? cols;
  const bands = Array.from({ length: Math.ceil(rows / BAND_ROWS) }, (_, band): Rect => {
    const row = band * BAND_ROWS;
    return { row, col: 0, rows: Math.min(BAND_ROWS, rows - row), cols };
  });
  const load = (rect: Rect): Float32Array => {
    const raw = room.raw.subarray(0, rawBytes(source, rect));
    const x = room.x.subarray(0, rect.rows * cols);
    readRect(context, raw, source, rect);
    decodeRect(context, x, raw, source, rect);
    return x;
  };
  let absmax = 0;
  for (const rect of bands) {
    const x = load(rect);
    if (reportNonFinite(context, x, rect, cols)) return;
    const whole = { rows: rect.rows, cols, groupRows: rect.rows, groupCols: cols };
    kernels.absmax(room.largest, x, whole);
    absmax = Math.max(absmax, room.largest[0]!);
  }
  const scale = kind === "e4m3"
    ? e4m3Scale(absmax)
    : kind === "e2m1Groups"
    ? nvfp4Scale(absmax)
    : 1;
  const across = cols / groupCols, tilesAcross = Math.ceil(across / TILE_COLS);
  const rowBytes = kind === "e2m1Groups" ? cols / 2 : cols;
  for (const rect of bands) {
    const x = load(rect), { codes, values, tiles } = room;
    roundGroups(x, room, { kind, scale, groupCols, rect, search: task.scaleSearch });
    kernels.errorStats(room.stats.subarray(0, STATS_LENGTH), x, values.subarray(0, x.length));
    const count = rect.rows * cols;
    const bytes = kind === "e2m1Groups" ? packPairs(codes, count) : codes.subarray(0, count);
    context.write(bytes, task.codesOffsetBytes + rect.row * rowBytes);
    if (kind !== "e4m3") {
      const own = tiles.subarray(0, tilesAcross * TILE_BYTES);
      context.write(own, task.scalesOffsetBytes + (rect.row / BAND_ROWS) * own.length);
    }
  }
  // What was there of the file before is undefined: rows of the padding are zeros.
  const padding = new Uint8Array((floats.paddedRows - rows) * rowBytes);
  if (padding.length > 0) context.write(padding, task.codesOffsetBytes + rows * rowBytes);
  context.slot.set(room.stats);
  const one = kind === "e4m3" ? task.scalesOffsetBytes : floats.wholeScaleOffsetBytes;
  if (one !== null) context.write(bytesOf(Float32Array.of(scale)), one);
}

/** Rounds the groups of a band: codes, what they stand for, and the bytes of their scales in tiles. */
function roundGroups(
  x: Float32Array,
  { codes, values, tiles }: Pick<ReturnType<typeof roomForBand>, "codes" | "values" | "tiles">,
  { kind, scale, groupCols, rect: { rows, cols }, search }: {
    readonly kind: TaskFloats["scheme"]["kind"];
    readonly scale: number;
    readonly groupCols: number;
    readonly rect: Rect;
    readonly search: boolean;
  },
): void {
  tiles.fill(0);
  for (let r = 0; r < rows; r++) {
    for (let g = 0; g < cols / groupCols; g++) {
      const from = r * cols + g * groupCols, to = from + groupCols;
      const own = { codes: codes.subarray(from, to), values: values.subarray(from, to) };
      const group = x.subarray(from, to);
      if (kind === "e4m3") {
        roundE4m3(group, scale, own);
        continue;
      }
      tiles[tileOffset(r, g)] = kind === "e4m3Groups"
        ? roundMxfp8(group, own, search)
        : roundNvfp4(group, scale, own, search);
    }
  }
}

/** Where the scale of row `r` and group `g` stands in the tiles of a band. */
function tileOffset(r: number, g: number): number {
  const tile = Math.floor(g / TILE_COLS) * TILE_BYTES;
  return tile + (r % 32) * 16 + Math.floor(r / 32) * TILE_COLS + g % TILE_COLS;
}

/** Two codes to a byte, the even column in the high half; in place. */
function packPairs(codes: Uint8Array, count: number): Uint8Array {
  for (let i = 0; i < count; i += 2) codes[i >> 1] = codes[i]! << 4 | codes[i + 1]!;
  return codes.subarray(0, count / 2);
}

function roomForBand(scratch: Scratch, { source }: QuantizeTask, { scheme }: TaskFloats) {
  const { rows, cols } = source, height = Math.min(BAND_ROWS, rows), count = height * cols;
  const across = cols / (FLOAT_GROUPS[scheme.kind] ?? cols);
  return {
    raw: scratch.u8(rawBytes(source, { row: 0, col: 0, rows: height, cols })),
    x: scratch.f32(count),
    values: scratch.f32(count),
    codes: scratch.u8(count),
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
