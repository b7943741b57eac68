/**
 * Cholesky factorisation H = L·Lᵀ of a large symmetric matrix in f64, in place, by a team.
 *
 * Left-looking, in block columns of {@link CHOLESKY_BLOCK}: each is updated by a product with all columns
 * to its left, its diagonal block is factored by member 0, the rows below are solved by all. So
 * the work is nearly all matrix products, and a block column, once done, is only read: with the parts
 * exported here it may come from anywhere, a file too. The strict upper triangle is never touched, so the
 * matrix can be put back from it ({@link restoreLower}) for another attempt with more damping.
 *
 * Those products can be made in f32 (`single`), in half the time, if the matrix can stand it:
 * {@link SINGLE_ERROR} bounds what that changes. The rest stays in f64.
 *
 * Bits do not depend on the size of the team: every element is made by the same operations in the same
 * order, whoever makes it.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "./context.ts";
import { GEMM_SHORT_DEPTH, type LinalgKernels } from "./linalg_kernels.ts";
import { block, matrix, type MatrixF64, transpose } from "./matrix.ts";
import { type Share, shareOf } from "./team.ts";

/** Columns per step: enough for efficient products, few enough for the part that one worker does alone. */
const CHOLESKY_BLOCK = 128;

/** Columns that the small kernels take at once; within a block the rest is products again. */
const SMALL_BLOCK = 16;

/** Rows are split in units of a register tile. */
const ROW_UNIT = 4;

/**
 * Rows that are updated at once, in a compact copy, which stays in the second-level cache: rows of a
 * matrix of a power of 2 columns would drive each other out of it.
 */
const UPDATE_ROWS = 384;

/** Memory of each member to factor a matrix of order `n`. */
function roomFor(memory: Pick<Allocator, "f64">, n: number) {
  return {
    upper: memory.f64(CHOLESKY_BLOCK ** 2),
    spare: memory.f64(Math.min(n, UPDATE_ROWS) * CHOLESKY_BLOCK),
  };
}

/** Counts what each member takes in {@link cholesky}. */
export function planCholesky(memory: CountedMemory, n: number): void {
  memory.within(() => roomFor(memory, n));
}

/**
 * With products in f32, the factor is the exact one of a matrix that differs from H in element (i, j) by
 * at most this times sqrt(H[i,i] * H[j,j]), so in its norm by at most this times the trace: an element is
 * a sum of products L[i,k] L[j,k] whose magnitudes add up to no more (Cauchy-Schwarz), made in runs with
 * one rounding per factor, product and addition. (What f64 adds is far below.)
 */
export const SINGLE_ERROR = (GEMM_SHORT_DEPTH + 3) * 2 ** -24;

/**
 * Replaces the lower triangle of `h` by its Cholesky factor L.
 *
 * @param h f64 `[n, n]`; only the lower triangle is read, and only it is changed. Shared by the team.
 * @param minPivot pivots must be above this: 0, or what rounding errors amount to.
 * @param single whether products are made in f32. Numbers must be within its range, with room for squares.
 * @returns to every member, -1, or the index of the first column whose pivot is not above `minPivot`, or
 * is NaN or infinite (the lower triangle is then neither H nor L).
 * @throws RangeError if `h` is not square.
 */
export function cholesky(
  context: LinalgContext,
  h: MatrixF64,
  minPivot: number,
  single = false,
): number {
  const { kernels, memory, team } = context;
  const n = h.rows;
  return withScratch(context, () => {
    const { upper, spare } = roomFor(memory, n);
    const update = (column: MatrixF64, done: MatrixF64, rows: Share) =>
      updateRows(kernels, column, done, rows, { single, spare });
    for (let first = 0; first < n; first += CHOLESKY_BLOCK) {
      const width = Math.min(CHOLESKY_BLOCK, n - first);
      const done = block(h, first, 0, n - first, first);
      const column = block(h, first, first, n - first, width);
      const diagonal = block(column, 0, 0, width, width);
      let failed = -1;
      // The member that factors the diagonal block alone has its share of the rows in it.
      const share = Math.ceil((n - first) / team.size);
      const others = { index: team.index - 1, size: team.size - 1 };
      const updated = team.index === 0
        ? { start: width, end: Math.max(width, team.size === 1 ? n - first : share) }
        : shareOf(others, Math.max(width, share), n - first, ROW_UNIT);
      if (team.index === 0) {
        // Products fill whole rectangles: what lies above the diagonal is kept aside.
        copyUpper(upper, CHOLESKY_BLOCK, diagonal.data, h.rowStride, width);
        update(column, done, { start: 0, end: width });
        failed = factorDiagonal(kernels, diagonal, minPivot);
        copyUpper(diagonal.data, h.rowStride, upper, CHOLESKY_BLOCK, width);
      }
      update(column, done, updated);
      failed = team.max(failed);
      if (failed >= 0) return first + failed;
      const below = shareOf(team, width, n - first, ROW_UNIT);
      solveRows(kernels, block(column, below.start, 0, below.end - below.start, width), diagonal);
      team.barrier();
    }
    return -1;
  });
}

/** Copies what is above the diagonal of an n x n matrix; rows are `toStride` and `fromStride` apart. */
function copyUpper(
  to: Float64Array,
  toStride: number,
  from: Float64Array,
  fromStride: number,
  n: number,
): void {
  for (let i = 0; i < n; i++) {
    to.set(from.subarray(i * fromStride + i + 1, i * fromStride + n), i * toStride + i + 1);
  }
}

/**
 * column -= done·(its first rows)ᵀ, for some rows: takes from a block column what the columns to its left
 * explain.
 *
 * @param column f64 `[m, width]`, a block column from its diagonal down.
 * @param done f64 `[m, k]`, the same rows of finished columns of L.
 * @param spare room for UPDATE_ROWS rows, or all.
 */
function updateRows(
  kernels: LinalgKernels,
  column: MatrixF64,
  done: MatrixF64,
  { start, end }: Share,
  { single, spare }: { readonly single: boolean; readonly spare: Float64Array },
): void {
  if (done.cols === 0) return;
  const factors = transpose(block(done, 0, 0, column.cols, done.cols));
  for (let row = start; row < end; row += UPDATE_ROWS) {
    const rows = Math.min(UPDATE_ROWS, end - row);
    const place = block(column, row, 0, rows, column.cols);
    const copy = matrix(spare, rows, column.cols);
    const from = block(done, row, 0, rows, done.cols);
    kernels.copyRows(copy, place);
    if (single) kernels.gemmF64ByF32(copy, from, factors, "subtract");
    else kernels.gemmF64(copy, from, factors, "subtract");
    kernels.copyRows(place, copy);
  }
}

/**
 * Factors one diagonal block in place; returns -1 or the index of the first unusable pivot. What lies
 * above the diagonal is neither kept nor of use afterwards.
 */
function factorDiagonal(kernels: LinalgKernels, a: MatrixF64, minPivot: number): number {
  const n = a.rows;
  for (let first = 0; first < n; first += SMALL_BLOCK) {
    const width = Math.min(SMALL_BLOCK, n - first), rows = n - first;
    const column = block(a, first, first, rows, width);
    if (first > 0) {
      const done = block(a, first, 0, rows, first);
      kernels.gemmF64(column, done, transpose(block(done, 0, 0, width, first)), "subtract");
    }
    const diagonal = block(column, 0, 0, width, width);
    const failed = kernels.choleskyBlock(diagonal, minPivot);
    if (failed >= 0) return first + failed;
    kernels.solveBlock(block(column, width, 0, rows - width, width), diagonal);
  }
  return -1;
}

/**
 * Replaces `x` by the solution X of X·Lᵀ = x. Rows are independent of each other.
 *
 * @param x f64 `[rows, n]`.
 * @param l f64 `[n, n]`, lower triangular with a nonzero diagonal; what is above it is not read.
 */
export function solveRows(kernels: LinalgKernels, x: MatrixF64, l: MatrixF64): void {
  if (x.rows === 0) return;
  for (let first = 0; first < l.rows; first += SMALL_BLOCK) {
    const width = Math.min(SMALL_BLOCK, l.rows - first);
    const columns = block(x, 0, first, x.rows, width);
    if (first > 0) {
      const done = block(x, 0, 0, x.rows, first);
      kernels.gemmF64(columns, done, transpose(block(l, first, 0, width, first)), "subtract");
    }
    kernels.solveBlock(columns, block(l, first, first, width, width));
  }
}

/**
 * Puts back the lower triangle of a symmetric matrix from its upper one, and the diagonal from
 * `diagonal`. This member's rows only; barriers are the caller's.
 */
export function restoreLower(
  h: MatrixF64,
  diagonal: Float64Array,
  start: number,
  end: number,
): void {
  const { data, rowStride } = h;
  const TILE = 32; // squares that fit the cache: one side of a transposition is read across rows
  for (let top = start; top < end; top += TILE) {
    const bottom = Math.min(end, top + TILE);
    for (let left = 0; left < bottom; left += TILE) {
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < Math.min(left + TILE, i); j++) {
          data[i * rowStride + j] = data[j * rowStride + i]!;
        }
      }
    }
    for (let i = top; i < bottom; i++) data[i * rowStride + i] = diagonal[i]!;
  }
}
