/** packErrors, packFactor, feedBack: see `LinalgKernels.feedBack`, `asm/linalg/feed_back_i16.ts`. */

import { checkFeedBack, checkPackErrors, checkPackFactor } from "../../../linalg/linalg_checks.ts";
import type { ShortMatrix } from "../../../linalg/linalg_kernels.ts";
import type { MatrixF32 } from "../../../linalg/matrix.ts";
import { roundHalfEven } from "../round_half_even.ts";

const f32 = Math.fround;
const ERROR_MAX = 8191, FACTOR_MAX = 32767, FACTOR_SUM_MAX = 262000;
const TILE_ROWS = 4, TILE_COLS = 8;

export function packErrors(out: ShortMatrix, e: MatrixF32): void {
  checkPackErrors(out, e);
  const pairs = Math.ceil(e.cols / 2), rows = Math.ceil(e.rows / TILE_ROWS) * TILE_ROWS;
  for (let r = 0; r < rows; r++) {
    const row = r < e.rows ? e.data.subarray(r * e.rowStride, r * e.rowStride + e.cols) : [];
    let largest = 0;
    for (const x of row) largest = Math.max(largest, Math.abs(x));
    const scale = f32(largest / ERROR_MAX);
    out.scales[r] = scale;
    for (let p = 0; p < pairs; p++) {
      const at = (r - r % TILE_ROWS) * pairs + p * TILE_ROWS + r % TILE_ROWS;
      const [low, high] = [2 * p, 2 * p + 1].map((k) => integer((row[k] ?? 0) / scale, ERROR_MAX));
      out.pairs[at] = pairOf(low!, high!);
    }
  }
}

export function packFactor(out: ShortMatrix, l: MatrixF32): void {
  checkPackFactor(out, l);
  const pairs = Math.ceil(l.rows / 2);
  for (let j = 0; j < l.cols; j++) {
    let largest = 0, sum = 0;
    for (let k = 0; k < l.rows; k++) {
      const size = Math.abs(l.data[k * l.rowStride + j]!);
      largest = Math.max(largest, size);
      sum = f32(sum + size);
    }
    const scale = Math.max(f32(largest / FACTOR_MAX), f32(sum / FACTOR_SUM_MAX));
    out.scales[j] = scale;
    for (let p = 0; p < pairs; p++) {
      const at = (j - j % TILE_COLS) * pairs + p * TILE_COLS + j % TILE_COLS;
      const [low, high] = [2 * p, 2 * p + 1].map((k) =>
        k < l.rows ? integer(l.data[k * l.rowStride + j]! / scale, FACTOR_MAX) : 0
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

/** The nearest integer, ties to even, within +-most; 0 for NaN. */
function integer(x: number, most: number): number {
  const t = f32(x);
  return Number.isNaN(t) ? 0 : roundHalfEven(Math.max(-most, Math.min(most, t)));
}

const pairOf = (low: number, high: number): number => (low & 0xffff) | (high << 16);
const lowOf = (pair: number): number => (pair << 16) >> 16;
const highOf = (pair: number): number => pair >> 16;
