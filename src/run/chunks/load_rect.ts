/** Reads a rectangle of a matrix as f32 values in original space, from whatever the file stores. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type ChunkGrid, chunkRect } from "../chunk_grid.ts";
import { matrix as matrixOf } from "../../linalg/matrix.ts";
import { elementBytes } from "../tasks.ts";
import type { Rect } from "../chunk_grid.ts";
import type {
  FilePlace,
  MatrixSource,
  PackedCodes,
  PackedScale,
  SourceTransform,
} from "../../formats/matrix_source.ts";
import {
  decodeByteScales,
  decodeTiledScales,
  roundToInt8,
  scaleRange,
  scalesAcross,
  unpackLevels,
} from "../../formats/packed_codes.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";
import { mergeRect, planMerge } from "./merge_rect.ts";

/** Whether the values of `matrix` are the floats that are stored, and LoRAs at most are added to them. */
export function isAsStored(matrix: MatrixSource): boolean {
  return matrix.dtype !== "I8" && matrix.scale === null && matrix.convrotGroupSize === null &&
    matrix.transform === undefined && matrix.columnFactors === undefined &&
    matrix.rowFactors === undefined && matrix.smoothFactors === undefined;
}

/** Bytes of scratch that `readRect` takes for a rectangle. */
export function rawBytes(matrix: MatrixSource, rect: Rect): number {
  const { transform, packed } = matrix;
  if (transform !== undefined) return transform.rows * transform.cols;
  if (packed !== undefined) return rect.rows * packed.rowBytes;
  return rect.rows * rect.cols * elementBytes(matrix.dtype);
}

/** Returns those bytes of `raw`, read for a rectangle, that hold `rows` of its rows from `row` on. */
export function rawRows(
  raw: Uint8Array,
  matrix: MatrixSource,
  { rect, row, rows }: { rect: Rect; row: number; rows: number },
): Uint8Array {
  if (matrix.transform !== undefined) return raw;
  const rowBytes = rawBytes(matrix, { ...rect, rows: 1 });
  return raw.subarray(row * rowBytes, (row + rows) * rowBytes);
}

/** Reads the stored bytes of `rect` into `raw`: one read if rows are whole, else one per row. */
export function readRect(
  context: ChunkContext,
  raw: Uint8Array,
  matrix: MatrixSource,
  rect: Rect,
): void {
  const { packed } = matrix;
  if (packed !== undefined) {
    context.read(matrix.file, raw, matrix.offsetBytes + rect.row * packed.rowBytes);
    return;
  }
  const size = elementBytes(matrix.dtype);
  const at = (row: number) => matrix.offsetBytes + (row * matrix.cols + rect.col) * size;
  if (rect.cols === matrix.cols || matrix.transform !== undefined) {
    context.read(
      matrix.file,
      raw,
      matrix.transform === undefined ? at(rect.row) : matrix.offsetBytes,
    );
    return;
  }
  const width = rect.cols * size;
  for (let row = 0; row < rect.rows; row++) {
    context.read(matrix.file, raw.subarray(row * width, (row + 1) * width), at(rect.row + row));
  }
}

/**
 * Decodes `raw`, the stored bytes of `rect` of `matrix`, to `x` (rect.rows x rect.cols): applies the
 * stored scales, undoes the rotation and merges the LoRAs, so that `x` is what the model computes with.
 */
export function decodeRect(
  context: ChunkContext,
  x: Float32Array,
  raw: Uint8Array,
  matrix: MatrixSource,
  rect: Rect,
): void {
  const { transform, packed } = matrix;
  if (transform !== undefined) decodeTransformed(context, x, raw, { matrix, transform, rect });
  else if (packed !== undefined) decodePacked(context, x, raw, { matrix, packed, rect });
  else {
    if (matrix.dtype === "I8") decodeCodes(context, x, raw, matrix, rect);
    else {
      context.kernels.decode(x, raw, matrix.dtype);
      if (matrix.scale !== null) applyScales(context, x, matrix, matrix.scale, rect);
    }
  }
  if (matrix.convrotGroupSize !== null) context.kernels.rotate(x, matrix.convrotGroupSize);
  mergeRect(context, x, matrix, rect);
  applyFactors(context, x, matrix, rect);
}

/** Multiplies and divides by what SmoothQuant moved between inputs and weights. */
function applyFactors(
  context: ChunkContext,
  x: Float32Array,
  { columnFactors, rowFactors, smoothFactors, cols }: MatrixSource,
  rect: Rect,
): void {
  if (columnFactors !== undefined) {
    const factors = columnFactors.subarray(rect.col, rect.col + rect.cols);
    for (let at = 0; at < x.length; at += rect.cols) {
      for (let k = 0; k < rect.cols; k++) x[at + k] = x[at + k]! * factors[k]!;
    }
  }
  if (rowFactors !== undefined) {
    for (let r = 0; r < rect.rows; r++) {
      const factor = rowFactors[rect.row + r]!, at = r * rect.cols;
      for (let k = 0; k < rect.cols; k++) x[at + k] = x[at + k]! * factor;
    }
  }
  if (smoothFactors === undefined) return;
  const mark = context.scratch.mark();
  const factors = context.scratch.f32(cols);
  context.read(smoothFactors.file, bytesOf(factors), smoothFactors.offsetBytes);
  for (let at = 0; at < x.length; at += rect.cols) {
    for (let k = 0; k < rect.cols; k++) x[at + k] = x[at + k]! / factors[rect.col + k]!;
  }
  context.scratch.release(mark);
}

/** The levels of codes that share bytes, times their scales. */
function decodePacked(
  context: ChunkContext,
  x: Float32Array,
  raw: Uint8Array,
  { matrix, packed, rect }: { matrix: MatrixSource; packed: PackedCodes; rect: Rect },
): void {
  const { scratch } = context;
  const mark = scratch.mark();
  let levels: Float32Array;
  if ("file" in packed.levels) {
    levels = scratch.f32(packed.levelCount);
    context.read(packed.levels.file, bytesOf(levels), packed.levels.offsetBytes);
  } else levels = packed.levels;
  unpackLevels(x, raw, packed, { levels, part: rect });
  scratch.release(mark);
  for (const scale of packed.scales) {
    applyScales(context, x, matrix, scale, rect);
    if (scale.rounds === true) roundToInt8(x);
  }
}

/**
 * The integers that the runtime multiplies packed codes as, and the scale of every row: whole rows of a matrix
 * that `runsInInt8`.
 *
 * @param raw the stored bytes of `rect`.
 */
export function readIntegers(
  context: ChunkContext,
  raw: Uint8Array,
  matrix: MatrixSource,
  rect: Rect,
): { codes: Int8Array; scales: Float32Array } {
  const { scratch } = context, packed = matrix.packed!;
  const count = rect.rows * rect.cols, { codes, scales } = roomForIntegers(scratch, rect);
  scales.fill(1);
  const mark = scratch.mark();
  const x = scratch.f32(count);
  const rounding = packed.scales.findIndex(({ rounds }) => rounds === true);
  const integers = { ...packed, scales: packed.scales.slice(0, rounding + 1) };
  decodePacked(context, x, raw, { matrix, packed: integers, rect });
  codes.set(x);
  const column = { ...rect, col: 0, cols: 1 };
  for (const scale of packed.scales.slice(rounding + 1)) {
    applyScales(context, scales, { ...matrix, cols: 1 }, { ...scale, groupCols: 1 }, column);
  }
  scratch.release(mark);
  return { codes, scales };
}

/** The part `rect` of a weight whose codes are stored transformed (`quant/incoherence.ts`), in original space. */
function decodeTransformed(
  context: ChunkContext,
  x: Float32Array,
  raw: Uint8Array,
  { matrix, transform, rect: part }: {
    matrix: MatrixSource;
    transform: SourceTransform;
    rect: Rect;
  },
): void {
  const { scratch, linalg } = context;
  if (linalg === null) throw new TypeError("Cannot undo a transform: no linear algebra was loaded");
  const { rows, cols } = transform;
  const mark = scratch.mark();
  const padded = scratch.f32(rows * cols);
  decodeCodes(context, padded, raw, { scale: matrix.scale, cols }, { row: 0, col: 0, rows, cols });
  linalg.kernels.hadamardRows(matrixOf(padded, rows, cols));
  linalg.kernels.hadamardColumns(matrixOf(padded, rows, cols));
  const signs = (count: number, { file, offsetBytes }: FilePlace) => {
    const values = scratch.f32(count);
    context.read(file, bytesOf(values), offsetBytes);
    return values;
  };
  const signRow = signs(rows, transform.signRow), signCol = signs(cols, transform.signCol);
  for (let r = 0; r < part.rows; r++) {
    const row = part.row + r;
    for (let c = 0; c < part.cols; c++) {
      const col = part.col + c;
      x[r * part.cols + c] = padded[row * cols + col]! * signRow[row]! * signCol[col]!;
    }
  }
  scratch.release(mark);
}

/** The codes of `rect`, times their scales if there are. */
function decodeCodes(
  context: ChunkContext,
  x: Float32Array,
  raw: Uint8Array,
  matrix: Pick<MatrixSource, "scale" | "cols">,
  rect: Rect,
): void {
  const { scratch, kernels } = context, { scale } = matrix, { rows, cols } = rect;
  const codes = new Int8Array(raw.buffer, raw.byteOffset, rows * cols);
  if (scale === null || !hasWholeGroups(matrix, rect)) {
    x.set(codes);
    if (scale !== null) applyScales(context, x, matrix, scale, rect);
    return;
  }
  const mark = scratch.mark();
  const scales = readScales(context, matrix, rect);
  const groupCols = Math.min(scale.groupCols, cols);
  kernels.dequantize(x, codes, scales, { rows, cols, groupRows: 1, groupCols });
  scratch.release(mark);
}

/** Whether rows of codes are those of the matrix, and made up of groups of one width. */
function hasWholeGroups({ scale, cols }: Pick<MatrixSource, "scale" | "cols">, rect: Size) {
  return scale !== null && rect.cols === cols && cols > 0 &&
    cols % Math.min(scale.groupCols, cols) === 0;
}

/** The rows of groups that the rows of `rect` are in. */
function bandsOf({ groupRows }: PackedScale, { row, rows }: Rect) {
  const firstBand = Math.floor(row / groupRows);
  return { firstBand, bands: Math.floor((row + rows - 1) / groupRows) - firstBand + 1 };
}

function applyScales(
  context: ChunkContext,
  x: Float32Array,
  matrix: Pick<MatrixSource, "cols">,
  scale: PackedScale,
  rect: Rect,
): void {
  const { scratch } = context;
  const across = scalesAcross(scale, matrix.cols);
  const { firstBand, bands } = bandsOf(scale, rect);
  const mark = scratch.mark();
  const scales = scratch.f32(bands * across);
  loadScales(context, scales, scale, { firstBand, bands, across });
  for (let r = 0; r < rect.rows; r++) {
    const band = Math.floor((rect.row + r) / scale.groupRows) - firstBand;
    let c = 0;
    while (c < rect.cols) {
      const group = Math.floor((rect.col + c) / scale.groupCols);
      const end = Math.min(rect.cols, (group + 1) * scale.groupCols - rect.col);
      const factor = scales[band * across + group]!;
      for (let i = r * rect.cols + c; i < r * rect.cols + end; i++) x[i] = x[i]! * factor;
      c = end;
    }
  }
  scratch.release(mark);
}

/** Reads the scales of `bands` rows of groups. */
function loadScales(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
  out: Float32Array,
  scale: PackedScale,
  bands: { firstBand: number; bands: number; across: number },
): void {
  const { scratch, kernels } = context;
  const mark = scratch.mark();
  const { offsetBytes, byteLength } = scaleRange(scale, bands);
  const raw = scratch.u8(byteLength);
  context.read(scale.file, raw, offsetBytes);
  if (scale.tiledAcross !== undefined) decodeTiledScales(out, raw, scale, bands);
  else if (scale.dtype === "F8_E8M0") decodeByteScales(out, raw, scale.dtype);
  else kernels.decode(out, raw, scale.dtype);
  scratch.release(mark);
}

/** The scales of a rectangle of whole rows: f32 `[rect.rows, scales across]`, every row with its own. */
export function readScales(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
  matrix: Pick<MatrixSource, "scale" | "cols">,
  rect: Rect,
): Float32Array {
  const { scratch } = context, scale = matrix.scale!;
  const across = scalesAcross(scale, matrix.cols);
  const out = scratch.f32(rect.rows * across);
  if (rect.rows === 0) return out;
  const { firstBand, bands } = bandsOf(scale, rect);
  const mark = scratch.mark();
  const own = scratch.f32(bands * across);
  loadScales(context, own, scale, { firstBand, bands, across });
  if (scale.groupRows === 1) out.set(own);
  for (let r = 0; scale.groupRows > 1 && r < rect.rows; r++) {
    const band = Math.floor((rect.row + r) / scale.groupRows) - firstBand;
    for (let g = 0; g < across; g++) out[r * across + g] = own[band * across + g]!;
  }
  scratch.release(mark);
  return out;
}

/** Rows and columns of a rectangle, wherever it is. */
type Size = Pick<Rect, "rows" | "cols">;

/**
 * Counts what {@link decodeRect} takes on its way.
 *
 * @param areLocal whether pairs of LoRAs are where the kernels reach them: see `withLocalPairs`.
 */
export function planDecode(
  memory: CountedMemory,
  matrix: MatrixSource,
  size: Size,
  { areLocal = false }: { readonly areLocal?: boolean } = {},
): void {
  const { transform, packed, scale, smoothFactors, cols } = matrix;
  if (transform !== undefined) planTransformed(memory, matrix, transform);
  else if (packed !== undefined) planPacked(memory, matrix, packed, size.rows);
  else if (scale !== null) planCodes(memory, matrix, size);
  planMerge(memory, matrix, size.rows, { areLocal });
  if (smoothFactors !== undefined) memory.within(() => memory.f32(cols));
}

function planTransformed(
  memory: CountedMemory,
  matrix: MatrixSource,
  { rows, cols }: SourceTransform,
): void {
  const { scale } = matrix;
  memory.within(() => {
    memory.f32(rows * cols);
    if (scale !== null) planCodes(memory, { ...matrix, rows, cols }, { rows, cols });
    memory.f32(rows);
    memory.f32(cols);
  });
}

/** Counts what the scales of numbers take that are multiplied by them. */
function planCodes(
  memory: CountedMemory,
  matrix: Pick<MatrixSource, "dtype" | "scale" | "rows" | "cols">,
  size: Size,
): void {
  const { scale, dtype } = matrix;
  if (scale === null) return;
  if (dtype !== "I8" || !hasWholeGroups(matrix, size)) planScales(memory, scale, matrix, size.rows);
  else memory.within(() => planReadScales(memory, matrix, size.rows));
}

/** Counts what the scales of `rows` rows take, which may begin within a group. */
function planScales(
  memory: CountedMemory,
  scale: PackedScale,
  matrix: { readonly rows: number; readonly cols: number },
  rows: number,
): void {
  if (rows === 0) return;
  const { groupRows } = scale, across = scalesAcross(scale, matrix.cols);
  const most = groupRows === 1 ? rows : Math.floor((rows - 2) / groupRows) + 2;
  const bands = Math.min(Math.ceil(matrix.rows / groupRows), most);
  memory.within(() => {
    memory.f32(bands * across);
    planLoadScales(memory, scale, { bands, across });
  });
}

function planLoadScales(
  memory: CountedMemory,
  scale: PackedScale,
  { bands, across }: { readonly bands: number; readonly across: number },
): void {
  // Tiles of scales hold 128 rows: most of them is read from the last row of one on.
  const firstBand = scale.tiledAcross === undefined ? 0 : 127;
  memory.within(() => memory.u8(scaleRange(scale, { firstBand, bands, across }).byteLength));
}

function roomForIntegers(scratch: Pick<Scratch, "i8" | "f32">, { rows, cols }: Size) {
  return { codes: scratch.i8(rows * cols), scales: scratch.f32(rows) };
}

/** Counts what {@link readIntegers} leaves, and takes on its way. */
export function planIntegers(memory: CountedMemory, matrix: MatrixSource, size: Size): void {
  roomForIntegers(memory, size);
  memory.within(() => {
    memory.f32(size.rows * size.cols);
    planPacked(memory, matrix, matrix.packed!, size.rows);
  });
}

function planPacked(
  memory: CountedMemory,
  matrix: MatrixSource,
  { levels, levelCount, scales }: PackedCodes,
  rows: number,
): void {
  if ("file" in levels) memory.within(() => memory.f32(levelCount));
  for (const scale of scales) planScales(memory, scale, matrix, rows);
}

/** Counts what {@link readScales} leaves for `rows` rows, and takes on its way. */
export function planReadScales(
  memory: CountedMemory,
  matrix: Pick<MatrixSource, "scale" | "rows" | "cols">,
  rows: number,
): void {
  const scale = matrix.scale!, across = scalesAcross(scale, matrix.cols);
  memory.f32(rows * across);
  planScales(memory, scale, matrix, rows);
}

/** The bytes of a rectangle, and its values. */
export function roomForRect(
  scratch: Pick<Scratch, "u8" | "f32">,
  matrix: MatrixSource,
  rect: Rect,
): { readonly raw: Uint8Array; readonly x: Float32Array } {
  return { raw: scratch.u8(rawBytes(matrix, rect)), x: scratch.f32(rect.rows * rect.cols) };
}

/** Counts what a chunk of `grid` takes that reads and decodes one matrix. */
export function planDecodedRect(
  memory: CountedMemory,
  matrix: MatrixSource,
  grid: ChunkGrid,
): void {
  const rect = chunkRect(grid, 0);
  roomForRect(memory, matrix, rect);
  planDecode(memory, matrix, rect);
}
