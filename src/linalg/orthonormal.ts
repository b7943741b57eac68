/**
 * Orthonormal bases of f32 row vectors: block Gram-Schmidt, twice, products within the kernels. Rows that
 * depend on those before them are dropped, so a basis may be smaller than what it was made from.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { type LinalgContext, withScratch } from "./context.ts";
import { block, matrix, type MatrixF32, transpose } from "./matrix.ts";

/** Rows that are made orthogonal to one another one by one; between blocks it is products. */
const BLOCK = 16;

/** A row of which less than this is left depends on those before it: what f32 products can be wrong by. */
export const DEPENDENT = 2 ** -19;

/** Counts what {@link orthonormalizeRows} takes for `count` rows. */
export function planOrthonormal(memory: CountedMemory, count: number): void {
  memory.within(() => memory.f32(BLOCK * count));
}

/**
 * Replaces the rows of `m` by an orthonormal basis of what they span, in its first rows.
 *
 * @param m f32 `[count, n]`, row-major, finite.
 * @param passes 2; 1 if a rough basis will do.
 * @returns how many rows the basis has. Those after it are undefined.
 */
export function orthonormalizeRows(
  context: LinalgContext,
  m: MatrixF32,
  passes: 1 | 2 = 2,
): number {
  const { kernels, memory } = context;
  return withScratch(context, () => {
    const shares = memory.f32(BLOCK * m.rows);
    let rank = 0;
    for (let first = 0; first < m.rows; first += BLOCK) {
      let count = Math.min(BLOCK, m.rows - first);
      if (first > rank) { for (let i = 0; i < count; i++) row(m, rank + i).set(row(m, first + i)); }
      const lengths = Array.from({ length: count }, (_, i) => lengthOf(row(m, rank + i)));
      for (let pass = 0; pass < passes; pass++) {
        const news = block(m, rank, 0, count, m.cols), basis = block(m, 0, 0, rank, m.cols);
        if (rank > 0 && count > 0) {
          const share = matrix(shares, count, rank);
          kernels.gemmF32(share, news, transpose(basis), "set");
          kernels.gemmF32(news, share, basis, "subtract");
        }
        count = orthonormalizeFew(news, pass === 0 ? lengths : null);
      }
      rank += count;
    }
    return rank;
  });
}

/**
 * Gram-Schmidt on some rows; those of which too little is left of their `lengths` are dropped. Returns how
 * many stay, which are then the first.
 */
function orthonormalizeFew(m: MatrixF32, lengths: readonly number[] | null): number {
  let kept = 0;
  for (let i = 0; i < m.rows; i++) {
    const x = row(m, i);
    for (let j = 0; j < kept; j++) {
      const y = row(m, j);
      let share = 0;
      for (let k = 0; k < x.length; k++) share += x[k]! * y[k]!;
      for (let k = 0; k < x.length; k++) x[k] = x[k]! - share * y[k]!;
    }
    const length = lengthOf(x);
    const least = lengths === null ? 0 : DEPENDENT * lengths[i]!;
    if (!(length > least)) continue;
    const to = row(m, kept++);
    for (let k = 0; k < to.length; k++) to[k] = x[k]! / length;
  }
  return kept;
}

function row(m: MatrixF32, i: number): Float32Array {
  return m.data.subarray(i * m.rowStride, i * m.rowStride + m.cols);
}

/** Sum of products, in f64. */
export function dot(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let k = 0; k < x.length; k++) sum += x[k]! * y[k]!;
  return sum;
}

/** x += factor * y */
export function addScaled(
  x: Float32Array | Float64Array,
  y: ArrayLike<number>,
  factor: number,
): void {
  for (let k = 0; k < x.length; k++) x[k] = x[k]! + factor * y[k]!;
}

function lengthOf(x: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < x.length; k++) sum += x[k]! * x[k]!;
  return Math.sqrt(sum);
}
