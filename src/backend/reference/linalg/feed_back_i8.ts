/** packErrorsI8, packFactorI8, feedBackI8: see `LinalgKernels.feedBackI8`, `asm/linalg/feed_back_i8.ts`. */

import {
  checkFeedBackI8,
  checkPackErrorsI8,
  checkPackFactorI8,
} from "../../../linalg/linalg_checks.ts";
import { BYTE_RUN, type ByteMatrix } from "../../../linalg/linalg_kernels.ts";
import type { MatrixF32 } from "../../../linalg/matrix.ts";
import { roundHalfEven } from "../round_half_even.ts";

const f32 = Math.fround;
const ERROR_MAX = 63, FACTOR_MAX = 127, OFFSET = 64;
const TILE_ROWS = 4, TILE_COLS = 8;

export function packErrorsI8(out: ByteMatrix, e: MatrixF32): void {
  checkPackErrorsI8(out, e);
  const quads = Math.ceil(e.cols / 4), rows = Math.ceil(e.rows / TILE_ROWS) * TILE_ROWS;
  for (let r = 0; r < rows; r++) {
    const row = r < e.rows ? e.data.subarray(r * e.rowStride, r * e.rowStride + e.cols) : null;
    const scale = f32(largestOf(row ?? []) / ERROR_MAX);
    out.scales[r] = scale;
    for (let q = 0; q < quads; q++) {
      const at = (r - r % TILE_ROWS) * quads + q * TILE_ROWS + r % TILE_ROWS;
      const codeOf = (k: number) =>
        row === null ? 0 : integer((row[4 * q + k] ?? 0) / scale, ERROR_MAX);
      out.quads[at] = quadOf((k) => codeOf(k) + OFFSET);
    }
  }
}

export function packFactorI8(out: ByteMatrix, l: MatrixF32): void {
  checkPackFactorI8(out, l);
  const quads = Math.ceil(l.rows / 4);
  for (let j = 0; j < l.cols; j++) {
    const column = Array.from({ length: l.rows }, (_, k) => l.data[k * l.rowStride + j]!);
    const scale = f32(largestOf(column) / FACTOR_MAX);
    const codes = column.map((x) => integer(x / scale, FACTOR_MAX));
    const strip = (j - j % TILE_COLS) * (quads + 1) + j % TILE_COLS;
    out.scales[j] = scale;
    out.quads[strip] = -OFFSET * codes.reduce((sum, code) => sum + code, 0);
    for (let q = 0; q < quads; q++) {
      out.quads[strip + (q + 1) * TILE_COLS] = quadOf((k) => codes[4 * q + k] ?? 0);
    }
  }
}

export function feedBackI8(
  c: MatrixF32,
  e: ByteMatrix,
  l: ByteMatrix,
  terms: number,
  add: boolean,
): void {
  checkFeedBackI8(c, e, l, terms);
  let left = 0, right = 0;
  for (let run = 0; run === 0 || run * BYTE_RUN < terms; run++) {
    const quads = Math.ceil(Math.min(BYTE_RUN, terms - run * BYTE_RUN) / 4);
    for (let r = 0; r < c.rows; r++) {
      for (let j = 0; j < c.cols; j++) {
        const row = left + (r - r % TILE_ROWS) * quads + r % TILE_ROWS;
        const strip = right + (j - j % TILE_COLS) * (quads + 1) + j % TILE_COLS;
        let sum = l.quads[strip]!;
        for (let q = 0; q < quads; q++) {
          sum += productOf(e.quads[row + q * TILE_ROWS]!, l.quads[strip + (q + 1) * TILE_COLS]!);
        }
        const scales = [l.scales[run * c.cols + j]!, e.scales[run * c.rows + r]!] as const;
        const value = f32(f32(sum * scales[0]) * scales[1]), at = r * c.rowStride + j;
        c.data[at] = add || run > 0 ? c.data[at]! + value : value;
      }
    }
    left += c.rows * quads;
    right += c.cols * (quads + 1);
  }
}

function largestOf(line: ArrayLike<number>): number {
  let largest = 0;
  for (let k = 0; k < line.length; k++) largest = Math.max(largest, Math.abs(line[k]!));
  return largest;
}

/** The nearest integer, ties to even, within +-most; -most for NaN. */
function integer(x: number, most: number): number {
  const t = f32(x);
  return Number.isNaN(t) ? -most : roundHalfEven(Math.max(-most, Math.min(most, t)));
}

function quadOf(byte: (k: number) => number): number {
  let quad = 0;
  for (let k = 0; k < 4; k++) quad |= (byte(k) & 0xff) << 8 * k;
  return quad;
}

/** The sum of the products of two quads of bytes. */
function productOf(x: number, y: number): number {
  let sum = 0;
  for (let shift = 24; shift >= 0; shift -= 8) sum += (x << shift >> 24) * (y << shift >> 24);
  return sum;
}
