/** Reads a rectangle of a matrix as f32 values in original space, from whatever the file stores. */

import type { FloatDType } from "../../core/dtype.ts";
import { matrix as matrixOf } from "../../linalg/matrix.ts";
import { elementBytes, type Rect } from "../tasks.ts";
import type { MatrixSource, SourceScale, SourceTransform } from "../../formats/matrix_source.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { mergeRect, mergeScratchBytes } from "./merge_rect.ts";

/** Bytes of scratch that `readRect` takes for a rectangle. */
export function rawBytes(matrix: MatrixSource, rect: Rect): number {
  const { transform } = matrix;
  if (transform !== undefined) return transform.rows * transform.cols;
  return rect.rows * rect.cols * elementBytes(matrix.dtype);
}

/** Reads the stored bytes of `rect` into `raw`: one read where rows are whole, else one per row. */
export function readRect(
  context: ChunkContext,
  raw: Uint8Array,
  matrix: MatrixSource,
  rect: Rect,
): void {
  const size = elementBytes(matrix.dtype);
  const at = (row: number) => matrix.offsetBytes + (row * matrix.cols + rect.col) * size;
  if (rect.cols === matrix.cols || matrix.transform !== undefined) {
    context.read(matrix.file, raw, at(rect.row));
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
  if (matrix.transform !== undefined) {
    decodeTransformed(context, x, raw, matrix, matrix.transform);
    return;
  }
  if (matrix.dtype === "I8") decodeCodes(x, raw);
  else context.kernels.decode(x, raw, matrix.dtype);
  if (matrix.scale !== null) applyScales(context, x, matrix, matrix.scale, rect);
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

/** All of a weight whose codes are stored transformed (`quant/incoherence.ts`): back to original space. */
function decodeTransformed(
  context: ChunkContext,
  x: Float32Array,
  raw: Uint8Array,
  matrix: MatrixSource,
  transform: SourceTransform,
): void {
  const { scratch, linalg } = context;
  if (linalg === null) throw new TypeError("Cannot undo a transform: no linear algebra was loaded");
  const { rows, cols } = transform;
  const mark = scratch.mark();
  const padded = scratch.f32(rows * cols);
  decodeCodes(padded, raw);
  const rect = { row: 0, col: 0, rows, cols };
  if (matrix.scale !== null) {
    applyScales(context, padded, { ...matrix, rows, cols }, matrix.scale, rect);
  }
  linalg.kernels.hadamardRows(matrixOf(padded, rows, cols));
  linalg.kernels.hadamardColumns(matrixOf(padded, rows, cols));
  const signs = (count: number, { file, offsetBytes }: SourceTransform["signRow"]) => {
    const values = scratch.f32(count);
    context.read(file, bytesOf(values), offsetBytes);
    return values;
  };
  const signRow = signs(rows, transform.signRow), signCol = signs(cols, transform.signCol);
  for (let r = 0; r < matrix.rows; r++) {
    for (let k = 0; k < matrix.cols; k++) {
      x[r * matrix.cols + k] = padded[r * cols + k]! * signRow[r]! * signCol[k]!;
    }
  }
  scratch.release(mark);
}

function decodeCodes(x: Float32Array, raw: Uint8Array): void {
  const codes = new Int8Array(raw.buffer, raw.byteOffset, raw.length);
  for (let i = 0; i < codes.length; i++) x[i] = codes[i]!;
}

function applyScales(
  context: ChunkContext,
  x: Float32Array,
  matrix: MatrixSource,
  scale: SourceScale,
  rect: Rect,
): void {
  const { scratch } = context;
  const across = Math.ceil(matrix.cols / scale.groupCols);
  const firstBand = Math.floor(rect.row / scale.groupRows);
  const bands = Math.floor((rect.row + rect.rows - 1) / scale.groupRows) - firstBand + 1;
  const mark = scratch.mark();
  const scales = scratch.f32(bands * across);
  const raw = scratch.u8(scales.length * elementBytes(scale.dtype));
  const position = scale.offsetBytes + firstBand * across * elementBytes(scale.dtype);
  context.read(scale.file, raw, position);
  context.kernels.decode(scales, raw, scale.dtype as FloatDType);
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

/** The scales of a rectangle of whole rows: f32 `[rect.rows, scales across]`, every row with its own. */
export function readScales(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
  matrix: MatrixSource,
  rect: Rect,
): Float32Array {
  const scale = matrix.scale!;
  const across = Math.ceil(matrix.cols / scale.groupCols);
  const out = context.scratch.f32(rect.rows * across);
  const mark = context.scratch.mark();
  const bytes = across * elementBytes(scale.dtype);
  const raw = context.scratch.u8(bytes);
  for (let r = 0; r < rect.rows; r++) {
    const band = Math.floor((rect.row + r) / scale.groupRows);
    context.read(scale.file, raw, scale.offsetBytes + band * bytes);
    context.kernels.decode(out.subarray(r * across, (r + 1) * across), raw, scale.dtype);
  }
  context.scratch.release(mark);
  return out;
}

/** Bytes of scratch that decoding `rows` rows takes: for their scales, then for their LoRAs. */
export function decodeScratchBytes(matrix: MatrixSource, rows: number): number {
  const factors = matrix.smoothFactors === undefined ? 0 : 4 * matrix.cols + 64;
  const merging = mergeScratchBytes(matrix, rows) + factors;
  if (matrix.transform !== undefined) {
    const { rows: height, cols: width } = matrix.transform;
    return 5 * height * width + 16 * (height + width) + 4096; // codes, their values, signs, scales
  }
  if (matrix.scale === null) return merging;
  const across = Math.ceil(matrix.cols / matrix.scale.groupCols);
  const bands = Math.ceil(rows / matrix.scale.groupRows) + 1;
  return Math.max(merging, bands * across * (4 + elementBytes(matrix.scale.dtype)) + 128) + factors;
}
