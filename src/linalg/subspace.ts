/**
 * The subspaces of the largest singular values of a matrix: its k leading left and right singular
 * directions, as orthonormal bases. Which basis of a subspace it is does not matter to a projection, so
 * single singular vectors are never worked out, except for the full decomposition.
 *
 * Randomised (Halko, Martinsson, Tropp, 2011): some random mixtures of the rows, more than k by the
 * oversampling, multiplied by Wᵀ and W in turn, orthonormalised in between, or better by polynomials of
 * WᵀW. If singular values fall slowly, one product finds two thirds of the directions; with four
 * refinements it is about 95%. The surplus is then taken off:
 * the weakest directions of UᵀW, by inverse iteration on its small Gram matrix.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { fillNormal, type Random } from "../core/rng.ts";
import { cholesky, planCholesky } from "./cholesky.ts";
import { type Allocator, type LinalgContext, withScratch } from "./context.ts";
import { block, matrix, type MatrixF32, type MatrixF64, transpose } from "./matrix.ts";
import { addScaled, DEPENDENT, dot, orthonormalizeRows, planOrthonormal } from "./orthonormal.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** Directions beyond k that the random mixtures have. */
const OVERSAMPLING = 8;

/** Which of the energies along the mixtures, in rising order, a refinement takes for the weakest. */
const WEAK_SHARE = 0.1;

/** Beyond this ratio of energies, squares of them leave nothing of the weakest in f32. */
const SPREAD_MAX = 300;

/** Rounds of inverse iteration on the surplus directions. */
const INVERSE_ROUNDS = 6;

/** Leading directions, one per row: f32, orthonormal. */
export interface Subspaces {
  /** `[ku, N]`. */
  readonly left: MatrixF32;
  /** `[kv, K]`; kv is at most ku. */
  readonly right: MatrixF32;
}

/** Parameters of {@link topSubspaces}. */
export interface SubspaceOptions {
  /** How many directions, 1 or more. Fewer are found if the rank is smaller. */
  readonly count: number;
  /** Rounds that bring the randomised subspaces nearer to the true ones, 0 or more. */
  readonly refinements: number;
  /** The full decomposition: exact, and slow, O(min(N, K)^3) on one thread. */
  readonly full: boolean;
  readonly random: Random;
}

/** The bases of `most` directions. */
function roomForBases(memory: Pick<Allocator, "f32">, most: number, rows: number, cols: number) {
  return { left: memory.f32(most * rows), right: memory.f32(most * cols) };
}

/** How many directions are worked with. */
function workedWith(
  { count, full }: Pick<SubspaceOptions, "count" | "full">,
  small: number,
): number {
  return Math.min(small, full ? count : count + OVERSAMPLING);
}

/** Counts what {@link topSubspaces} leaves, and takes on its way. */
export function planSubspaces(
  memory: CountedMemory,
  rows: number,
  cols: number,
  options: Omit<SubspaceOptions, "random">,
): void {
  const small = Math.min(rows, cols), most = workedWith(options, small);
  roomForBases(memory, most, rows, cols);
  planOrthonormal(memory, most);
  if (options.full) {
    memory.within(() => [memory.f64(small * small), memory.f64(small * small)]);
    return;
  }
  if (options.refinements > 0) memory.within(() => memory.f32(most * cols));
  if (most <= options.count) return;
  memory.within(() => {
    memory.f64(most * most);
    planCholesky(memory, most);
  });
}

/**
 * Returns the leading subspaces of `w`, in memory of the context that the caller gives back.
 *
 * @param w f32 `[N, K]`, row-major, finite.
 */
export function topSubspaces(
  context: LinalgContext,
  w: MatrixF32,
  options: SubspaceOptions,
): Subspaces {
  const { memory } = context, { rows, cols } = w;
  const small = Math.min(rows, cols), count = Math.min(small, options.count);
  const most = workedWith(options, small), room = roomForBases(memory, most, rows, cols);
  const left = matrix(room.left, most, rows), right = matrix(room.right, most, cols);
  if (most === 0) return { left, right };
  return options.full
    ? fullSubspaces(context, w, { left, right })
    : randomSubspaces(context, w, { ...options, left, right, count });
}

function head(m: MatrixF32, rows: number): MatrixF32 {
  return block(m, 0, 0, rows, m.cols);
}

function randomSubspaces(
  context: LinalgContext,
  w: MatrixF32,
  { left, right, count, random, refinements }: Subspaces & {
    count: number;
    random: Random;
    refinements: number;
  },
): Subspaces {
  const { kernels } = context;
  fillNormal(left.data.subarray(0, left.rows * left.cols), random);
  kernels.gemmF32(right, left, w, "set");
  let rank = orthonormalizeRows(context, right, 1);
  for (let round = 0; round < refinements && rank > 0; round++) {
    rank = refine(context, w, { left: head(left, rank), right: head(right, rank) });
  }
  if (rank > 0) {
    kernels.gemmF32(head(left, rank), head(right, rank), transpose(w), "set");
    rank = orthonormalizeRows(context, head(left, rank));
    kernels.gemmF32(head(right, rank), head(left, rank), w, "set");
  }
  let u = head(left, rank), v = head(right, rank);
  if (rank > count) [u, v] = dropWeakest(context, u, v, { count, random });
  return { left: u, right: head(v, orthonormalizeRows(context, v)) };
}

/**
 * Replaces `right` by an orthonormal basis of T(WᵀW)·right, T the second Chebyshev polynomial of the range
 * from 0 to about the weakest energy among them: what is stronger grows far faster than by powers. If
 * the energies are too far apart for f32, powers it is. `left` is used up. Returns the rank.
 */
function refine(context: LinalgContext, w: MatrixF32, { left, right }: Subspaces): number {
  const { kernels, memory } = context, x = right.data.subarray(0, right.rows * right.cols);
  const through = left.data.subarray(0, left.rows * left.cols);
  kernels.gemmF32(left, right, transpose(w), "set");
  const energies = Float64Array.from({ length: left.rows }, (_, i) => {
    const row = through.subarray(i * left.cols, (i + 1) * left.cols);
    return dot(row, row);
  }).sort();
  const weak = energies[Math.floor(WEAK_SHARE * energies.length)]!;
  if (!(energies.at(-1)! < SPREAD_MAX * weak)) {
    kernels.gemmF32(right, left, w, "set");
    return orthonormalizeRows(context, right, 1);
  }
  withScratch(context, () => {
    const first = matrix(memory.f32(x.length), right.rows, right.cols), y = first.data;
    for (let i = 0; i < x.length; i++) y[i] = -x[i]!;
    scale(through, 2 / weak);
    kernels.gemmF32(first, left, w, "add"); // y = (2 A / weak - 1) x
    kernels.gemmF32(left, first, transpose(w), "set");
    for (let i = 0; i < x.length; i++) x[i] = -x[i]! - 2 * y[i]!;
    scale(through, 4 / weak);
    kernels.gemmF32(right, left, w, "add"); // 2 (2 A / weak - 1) y - x
  });
  return orthonormalizeRows(context, right, 1);
}

function scale(values: Float32Array, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * factor;
}

/** Rotates the rows of `u` and of `b` = u·W alike, the weakest first, and returns the others. */
function dropWeakest(
  context: LinalgContext,
  u: MatrixF32,
  b: MatrixF32,
  { count, random }: { count: number; random: Random },
): [MatrixF32, MatrixF32] {
  const { kernels, memory } = context, n = b.rows, surplus = n - count;
  withScratch(context, () => {
    const gram = matrix(memory.f64(n * n), n, n);
    kernels.gemmF32F64(gram, b, transpose(b), "set");
    const weakest = weakestVectors(context, gram, { count: surplus, random });
    for (let t = 0; t < surplus; t++) reflect(weakest, t, [u, b]);
  });
  return [block(u, surplus, 0, count, u.cols), block(b, surplus, 0, count, b.cols)];
}

/** Eigenvectors of the smallest eigenvalues of a positive semidefinite matrix, which is used up. */
function weakestVectors(
  context: LinalgContext,
  gram: MatrixF64,
  { count, random }: { count: number; random: Random },
): Float64Array[] {
  const n = gram.rows, diagonal = new Float64Array(n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram.data[i * n + i]!;
  for (let i = 0; i < n; i++) diagonal[i] = gram.data[i * n + i]!;
  // A little on the diagonal changes no eigenvector, and makes the factor exist.
  let shift = 1e-14 * trace;
  for (;;) {
    for (let i = 0; i < n; i++) gram.data[i * n + i] = diagonal[i]! + shift;
    if (cholesky(context, gram, 0) < 0) break;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < i; j++) gram.data[i * n + j] = gram.data[j * n + i]!;
    }
    shift *= 100;
    if (!(shift <= trace)) {
      throw new RangeError("Cannot find subspaces: the weights are not finite");
    }
  }
  const vectors = Array.from({ length: count }, () => {
    const x = new Float32Array(n);
    fillNormal(x, random);
    return Float64Array.from(x);
  });
  for (let round = 0; round < INVERSE_ROUNDS; round++) {
    vectors.forEach((x, i) => {
      solve(gram, x);
      for (let j = 0; j < i; j++) addScaled(x, vectors[j]!, -dot(x, vectors[j]!));
      const length = Math.sqrt(dot(x, x));
      for (let k = 0; k < n; k++) x[k] = x[k]! / length;
    });
  }
  return vectors;
}

/** Replaces x by the solution of L·Lᵀ·y = x. */
function solve(l: MatrixF64, x: Float64Array): void {
  const n = l.rows;
  for (let i = 0; i < n; i++) {
    const at = i * l.rowStride, row = l.data.subarray(at, at + i);
    x[i] = (x[i]! - dot(row, x)) / l.data[at + i]!;
  }
  for (let i = n - 1; i >= 0; i--) {
    const at = i * l.rowStride, value = x[i]! / l.data[at + i]!;
    x[i] = value;
    addScaled(x.subarray(0, i), l.data.subarray(at, at + i), -value);
  }
}

/** The reflection that makes vector t one of the axes, of the vectors after it and the rows of `others`. */
function reflect(vectors: readonly Float64Array[], t: number, others: readonly MatrixF32[]): void {
  const x = vectors[t]!.subarray(t), pivot = x[0]!;
  const length = Math.sqrt(dot(x, x)), v = x.slice();
  v[0] = pivot + (pivot < 0 ? -length : length);
  const factor = 2 / dot(v, v);
  for (let k = t + 1; k < vectors.length; k++) {
    const y = vectors[k]!.subarray(t);
    addScaled(y, v, -factor * dot(v, y));
  }
  for (const m of others) {
    const sums = new Float64Array(m.cols);
    const row = (i: number) =>
      m.data.subarray((t + i) * m.rowStride, (t + i) * m.rowStride + m.cols);
    for (let i = 0; i < v.length; i++) addScaled(sums, row(i), v[i]!);
    for (let i = 0; i < v.length; i++) addScaled(row(i), sums, -factor * v[i]!);
  }
}

/** From all eigenvectors of the smaller Gram matrix. */
function fullSubspaces(
  context: LinalgContext,
  w: MatrixF32,
  { left, right }: Subspaces,
): Subspaces {
  const { kernels, memory } = context;
  const isTall = w.rows >= w.cols, n = Math.min(w.rows, w.cols);
  const [near, far, across] = isTall ? [right, left, transpose(w)] : [left, right, w];
  const found = withScratch(context, () => {
    const gram = matrix(memory.f64(n * n), n, n), vectors = matrix(memory.f64(n * n), n, n);
    const a = isTall ? transpose(w) : w;
    kernels.gemmF32F64(gram, a, transpose(a), "set");
    const energies = symmetricEigen(gram, vectors).subarray(0, near.rows);
    for (let i = 0; i < near.rows; i++) {
      near.data.set(vectors.data.subarray(i * n, (i + 1) * n), i * near.rowStride);
    }
    return energies.filter((energy) => energy > DEPENDENT * DEPENDENT * energies[0]!).length;
  });
  kernels.gemmF32(head(far, found), head(near, found), across, "set");
  const rank = orthonormalizeRows(context, head(far, found));
  return { left: head(left, rank), right: head(right, rank) };
}
