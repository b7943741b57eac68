/** Packed codes and the scales beside them as f32 values: pure functions on bytes, the same for every format. */

import { f8e4m3ToF32, f8e5m2ToF32 } from "../core/dtype.ts";
import type {
  BitField,
  PackedCodes,
  PackedScale,
  ScaleDType,
  SourceScale,
} from "./matrix_source.ts";

/** The 16 values of E2M1, by code. */
export const E2M1_LEVELS: Float32Array = Float32Array.from(
  [1, -1].flatMap((sign) => [0, 0.5, 1, 1.5, 2, 3, 4, 6].map((value) => sign * value)),
);

/** The 256 values of E4M3, by code. */
export const E4M3_LEVELS: Float32Array = byCode(256, f8e4m3ToF32);

const E5M2_LEVELS: Float32Array = byCode(256, f8e5m2ToF32);

/** Powers of 2, by exponent; the last code is NaN. The first is the smallest that f32 holds as a product. */
export const E8M0_LEVELS: Float32Array = byCode(
  256,
  (code) => code === 255 ? NaN : 2 ** (code - 127),
);

const ONE_BYTE_SCALES: Readonly<Partial<Record<ScaleDType, Float32Array>>> = {
  F8_E4M3: E4M3_LEVELS,
  F8_E5M2: E5M2_LEVELS,
  F8_E8M0: E8M0_LEVELS,
};

/** Rows and columns of a tile of scales. */
const TILE_ROWS = 128, TILE_COLS = 4, TILE_BYTES = TILE_ROWS * TILE_COLS;

/** Returns the values of `count` codes. */
export function byCode(count: number, valueOf: (code: number) => number): Float32Array {
  return Float32Array.from({ length: count }, (_, code) => valueOf(code));
}

/** Part of a matrix, in elements. */
interface Part {
  readonly row: number;
  readonly col: number;
  readonly rows: number;
  readonly cols: number;
}

/**
 * Fills `out` (rows x cols of `part`) with the levels of its codes.
 *
 * @param raw the stored rows of `part`, whole.
 */
export function unpackLevels(
  out: Float32Array,
  raw: Uint8Array,
  { rowBytes, fields }: PackedCodes,
  { levels, part }: { levels: Float32Array; part: Part },
): void {
  const [first] = fields;
  if (fields.length === 1 && first !== undefined) {
    for (let r = 0; r < part.rows; r++) {
      unpackRow(
        out,
        raw,
        { at: r * part.cols, from: r * rowBytes + first.firstByte, first, part },
        levels,
      );
    }
    return;
  }
  for (let r = 0; r < part.rows; r++) {
    for (let c = 0; c < part.cols; c++) {
      let code = 0, shift = 0;
      for (const field of fields) {
        code |= bitsAt(raw, r * rowBytes + field.firstByte, part.col + c, field) << shift;
        shift += field.bits;
      }
      out[r * part.cols + c] = levels[code]!;
    }
  }
}

function unpackRow(
  out: Float32Array,
  raw: Uint8Array,
  { at, from, first, part }: { at: number; from: number; first: BitField; part: Part },
  levels: Float32Array,
): void {
  if (first.bits === 8) {
    for (let c = 0; c < part.cols; c++) out[at + c] = levels[raw[from + part.col + c]!]!;
    return;
  }
  for (let c = 0; c < part.cols; c++) {
    out[at + c] = levels[bitsAt(raw, from, part.col + c, first)]!;
  }
}

/** Adds to `counts` how often each code occurs in the whole rows of `raw`. */
export function countCodes(
  counts: number[],
  raw: Uint8Array,
  { cols, packed: { rowBytes, fields } }: { readonly cols: number; readonly packed: PackedCodes },
): void {
  for (let row = 0; row < raw.length; row += rowBytes) {
    for (let c = 0; c < cols; c++) {
      let code = 0, shift = 0;
      for (const field of fields) {
        code |= bitsAt(raw, row + field.firstByte, c, field) << shift;
        shift += field.bits;
      }
      counts[code]!++;
    }
  }
}

function bitsAt(raw: Uint8Array, from: number, col: number, { bits, highFirst }: BitField): number {
  const perByte = 8 / bits, place = col % perByte;
  const shift = bits * (highFirst ? perByte - 1 - place : place);
  return (raw[from + (col - place) / perByte]! >> shift) & (2 ** bits - 1);
}

/** Rounds products to the int8 grid that the runtime multiplies with: half to even, from -127 to 127. */
export function roundToInt8(x: Float32Array): void {
  for (let i = 0; i < x.length; i++) {
    const value = x[i]!, floor = Math.floor(value), rest = value - floor;
    const rounded = rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
    x[i] = Math.max(-127, Math.min(127, rounded)); // NaN stays
  }
}

/** How many scales a row of `cols` columns has. */
export function scalesAcross({ groupCols }: SourceScale, cols: number): number {
  return Math.ceil(cols / groupCols);
}

/** Returns the bytes that hold the scales of `bands` rows of groups from `firstBand` on. */
export function scaleRange(
  scale: PackedScale,
  { firstBand, bands, across }: { firstBand: number; bands: number; across: number },
): { offsetBytes: number; byteLength: number; bytesEach: number } {
  const { tiledAcross, dtype, offsetBytes } = scale;
  const bytesEach = SCALE_BYTES[dtype];
  if (tiledAcross === undefined) {
    const begin = firstBand * across * bytesEach;
    return { offsetBytes: offsetBytes + begin, byteLength: bands * across * bytesEach, bytesEach };
  }
  const firstTile = Math.floor(firstBand / TILE_ROWS);
  const lastTile = Math.floor((firstBand + bands - 1) / TILE_ROWS);
  const rowOfTiles = TILE_ROWS * tiledAcross;
  return {
    offsetBytes: offsetBytes + firstTile * rowOfTiles,
    byteLength: (lastTile - firstTile + 1) * rowOfTiles,
    bytesEach,
  };
}

const SCALE_BYTES: Readonly<Record<ScaleDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
};

/** Fills `out` with scales of one byte that stand one after the other. */
export function decodeByteScales(out: Float32Array, raw: Uint8Array, dtype: ScaleDType): void {
  const levels = levelsOf(dtype);
  for (let i = 0; i < out.length; i++) out[i] = levels[raw[i]!]!;
}

/**
 * Fills `out`, `[bands, across]`, from tiles.
 *
 * @param raw what {@link scaleRange} names.
 */
export function decodeTiledScales(
  out: Float32Array,
  raw: Uint8Array,
  scale: PackedScale,
  { firstBand, across }: { firstBand: number; across: number },
): void {
  const levels = levelsOf(scale.dtype);
  const tilesAcross = scale.tiledAcross! / TILE_COLS;
  const skipped = Math.floor(firstBand / TILE_ROWS) * TILE_ROWS;
  for (let i = 0; i < out.length; i++) {
    const row = firstBand - skipped + Math.floor(i / across), col = i % across;
    const tile = Math.floor(row / TILE_ROWS) * tilesAcross + Math.floor(col / TILE_COLS);
    const within = row % TILE_ROWS;
    const at = tile * TILE_BYTES + (within % 32) * 16 + Math.floor(within / 32) * TILE_COLS +
      col % TILE_COLS;
    out[i] = levels[raw[at]!]!;
  }
}

function levelsOf(dtype: ScaleDType): Float32Array {
  const levels = ONE_BYTE_SCALES[dtype];
  if (levels === undefined) throw new TypeError(`Cannot read ${dtype} scales byte by byte`);
  return levels;
}
