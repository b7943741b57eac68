/** packErrors, packFactor, feedBack: see `LinalgKernels.feedBack`, `asm/linalg/feed_back_i16.ts`. */

import { checkFeedBack, checkPackErrors, checkPackFactor } from "../../../linalg/linalg_checks.ts";
import type { ShortMatrix } from "../../../linalg/linalg_kernels.ts";
import type { MatrixF32 } from "../../../linalg/matrix.ts";
import { roundHalfEven } from "../round_half_even.ts";

const f32 = Math.fround;
const INTEGER_MAX = 32767, NORM_MAX = 46300;
const TILE_ROWS = 4, TILE_COLS = 8;

export function packErrors(out: ShortMatrix, e: MatrixF32): void {
  checkPackErrors(out, e);
  const pairs = Math.ceil(e.cols / 2), rows = Math.ceil(e.rows / TILE_ROWS) * TILE_ROWS;
  for (let r = 0; r < rows; r++) {
    const row = r < e.rows ? e.data.subarray(r * e.rowStride, r * e.rowStride + e.cols) : [];
    const largest = largestOf(row), whole = row.length - row.length % 4;
    const sums = new Float32Array(4);
    for (let k = 0; k < whole; k++) sums[k % 4] = sums[k % 4]! + squareOf(row[k]!, largest);
    let sum = f32(f32(sums[0]! + sums[1]!) + f32(sums[2]! + sums[3]!));
    for (let k = whole; k < row.length; k++) sum = f32(sum + squareOf(row[k]!, largest));
    const scale = scaleOfLine(largest, sum);
    out.scales[r] = scale;
    for (let p = 0; p < pairs; p++) {
      const at = (r - r % TILE_ROWS) * pairs + p * TILE_ROWS + r % TILE_ROWS;
      const [low, high] = [2 * p, 2 * p + 1].map((k) => integer((row[k] ?? 0) / scale));
      out.pairs[at] = pairOf(low!, high!);
    }
  }
}

export function packFactor(out: ShortMatrix, l: MatrixF32): void {
  checkPackFactor(out, l);
  const pairs = Math.ceil(l.rows / 2);
  for (let j = 0; j < l.cols; j++) {
    const column = Array.from({ length: l.rows }, (_, k) => l.data[k * l.rowStride + j]!);
    const largest = largestOf(column);
    let sum = 0;
    for (const x of column) sum = f32(sum + squareOf(x, largest));
    const scale = scaleOfLine(largest, sum);
    out.scales[j] = scale;
    for (let p = 0; p < pairs; p++) {
      const at = (j - j % TILE_COLS) * pairs + p * TILE_COLS + j % TILE_COLS;
      const [low, high] = [2 * p, 2 * p + 1].map((k) =>
        k < l.rows ? integer(l.data[k * l.rowStride + j]! / scale) : 0
      );
      out.pairs[at] = pairOf(low!, high!);
    }
  }
}

export function feedBack(
  c: MatrixF32,
  e: ShortMatrix,
  l: ShortMatrix,
  terms: number,
  add: boolean,
): void {
  checkFeedBack(c, e, l, terms);
  const pairs = Math.ceil(terms / 2);
  for (let r = 0; r < c.rows; r++) {
    for (let j = 0; j < c.cols; j++) {
      const left = (r - r % TILE_ROWS) * pairs + r % TILE_ROWS;
      const right = (j - j % TILE_COLS) * pairs + j % TILE_COLS;
      let sum = 0;
      for (let p = 0; p < pairs; p++) {
        const x = e.pairs[left + p * TILE_ROWS]!, y = l.pairs[right + p * TILE_COLS]!;
        sum += lowOf(x) * lowOf(y) + highOf(x) * highOf(y);
      }
      const value = f32(f32(f32(sum) * l.scales[j]!) * e.scales[r]!);
      const at = r * c.rowStride + j;
      c.data[at] = add ? c.data[at]! + value : value;
    }
  }
}

function largestOf(line: ArrayLike<number>): number {
  let largest = 0;
  for (let k = 0; k < line.length; k++) largest = Math.max(largest, Math.abs(line[k]!));
  return largest;
}

function squareOf(x: number, largest: number): number {
  const quotient = f32(x / largest);
  return f32(quotient * quotient);
}

/** Of a line by its largest magnitude and the sum of squares of the quotients by it. */
function scaleOfLine(largest: number, squares: number): number {
  if (largest === 0) return 0;
  const byNorm = f32(f32(largest / NORM_MAX) * f32(Math.sqrt(squares)));
  return Math.max(f32(largest / INTEGER_MAX), byNorm);
}

/** The nearest integer, ties to even, within +-32767; 0 for NaN. */
function integer(x: number): number {
  const t = f32(x);
  return Number.isNaN(t) ? 0 : roundHalfEven(Math.max(-INTEGER_MAX, Math.min(INTEGER_MAX, t)));
}

const pairOf = (low: number, high: number): number => (low & 0xffff) | (high << 16);
const lowOf = (pair: number): number => (pair << 16) >> 16;
const highOf = (pair: number): number => pair >> 16;
