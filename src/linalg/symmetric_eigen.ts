/**
 * All eigenvectors of a symmetric f64 matrix: Householder tridiagonalisation, then QL with implicit shifts
 * (Bowdler, Martin, Reinsch, Wilkinson, 1968), on contiguous rows. O(n^3), on one thread, in place.
 */

import type { MatrixF64 } from "./matrix.ts";
import { addScaled, dot } from "./orthonormal.ts";

/** QL needs one or two rounds per eigenvalue; this many mean that something is not finite. */
const ROUNDS_MAX = 60;

/**
 * Returns the eigenvalues of `a`, largest first, and leaves their eigenvectors in the rows of `vectors`.
 *
 * @param a f64 `[n, n]`, symmetric, both triangles filled, finite; used up.
 * @param vectors f64 `[n, n]` for the result.
 * @throws RangeError if the iteration does not converge, which finite numbers never bring about.
 */
export function symmetricEigen(a: MatrixF64, vectors: MatrixF64): Float64Array {
  const n = a.rows;
  const diagonal = new Float64Array(n), below = new Float64Array(n), factors = new Float64Array(n);
  tridiagonalize(a, { diagonal, below, factors });
  accumulate(a, factors, vectors);
  implicitQl(vectors, diagonal, below);
  return sortDescending(diagonal, vectors);
}

function row(m: MatrixF64, i: number, length: number): Float64Array {
  return m.data.subarray(i * m.rowStride, i * m.rowStride + length);
}

/**
 * T = QᵀAQ: T in `diagonal` and `below` (entry i couples i - 1 and i). Reflection i, of coordinates
 * 0 .. i - 1, has its vector in row i of `a` and its factor in `factors`; 0: none.
 */
function tridiagonalize(
  a: MatrixF64,
  { diagonal, below, factors }: Record<"diagonal" | "below" | "factors", Float64Array>,
): void {
  for (let i = a.rows - 1; i >= 1; i--) {
    const v = row(a, i, i), last = v[i - 1]!;
    diagonal[i] = row(a, i, i + 1)[i]!;
    const rest = dot(v.subarray(0, i - 1), v.subarray(0, i - 1));
    if (rest === 0) {
      below[i] = last;
      factors[i] = 0;
      continue;
    }
    const length = Math.sqrt(rest + last * last), pivot = last > 0 ? -length : length;
    below[i] = pivot;
    v[i - 1] = last - pivot;
    const factor = 1 / (length * (length + Math.abs(last)));
    factors[i] = factor;
    const p = new Float64Array(i);
    for (let j = 0; j < i; j++) p[j] = factor * dot(row(a, j, i), v);
    addScaled(p, v, -factor * dot(p, v) / 2);
    for (let j = 0; j < i; j++) {
      const target = row(a, j, i), vj = v[j]!, pj = p[j]!;
      for (let k = 0; k < i; k++) target[k] = target[k]! - vj * p[k]! - pj * v[k]!;
    }
  }
  if (a.rows > 0) diagonal[0] = a.data[0]!;
}

/** Leaves Qᵀ, the product of all reflections, in `vectors`. */
function accumulate(a: MatrixF64, factors: Float64Array, vectors: MatrixF64): void {
  const n = a.rows;
  for (let i = 0; i < n; i++) {
    row(vectors, i, n).fill(0);
    vectors.data[i * vectors.rowStride + i] = 1;
  }
  for (let i = n - 1; i >= 1; i--) {
    if (factors[i] === 0) continue;
    const v = row(a, i, i), sums = new Float64Array(n);
    for (let j = 0; j < i; j++) addScaled(sums, row(vectors, j, n), v[j]!);
    for (let j = 0; j < i; j++) addScaled(row(vectors, j, n), sums, -factors[i]! * v[j]!);
  }
}

/** Diagonalises T; every rotation of its coordinates is one of two rows of `vectors`. */
function implicitQl(vectors: MatrixF64, d: Float64Array, below: Float64Array): void {
  const n = d.length, e = below.copyWithin(0, 1);
  if (n > 0) e[n - 1] = 0;
  for (let l = 0; l < n; l++) {
    for (let round = 0;; round++) {
      let m = l;
      while (m < n - 1) {
        const near = Math.abs(d[m]!) + Math.abs(d[m + 1]!);
        if (Math.abs(e[m]!) + near === near) break;
        m++;
      }
      if (m === l) break;
      if (round === ROUNDS_MAX) throw new RangeError("Cannot find eigenvectors: no convergence");
      let g = (d[l + 1]! - d[l]!) / (2 * e[l]!);
      let r = Math.sqrt(g * g + 1);
      g = d[m]! - d[l]! + e[l]! / (g + (g < 0 ? -r : r));
      let s = 1, c = 1, p = 0, i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i]!, b = c * e[i]!;
        r = Math.sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r === 0) {
          d[i + 1] = d[i + 1]! - p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1]! - p;
        r = (d[i]! - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        rotate(row(vectors, i, vectors.cols), row(vectors, i + 1, vectors.cols), c, s);
      }
      if (r === 0 && i >= l) continue;
      d[l] = d[l]! - p;
      e[l] = g;
      e[m] = 0;
    }
  }
}

function rotate(x: Float64Array, y: Float64Array, c: number, s: number): void {
  for (let k = 0; k < x.length; k++) {
    const f = y[k]!;
    y[k] = s * x[k]! + c * f;
    x[k] = c * x[k]! - s * f;
  }
}

/** Puts the largest eigenvalue first, by exchanging rows. */
function sortDescending(values: Float64Array, vectors: MatrixF64): Float64Array {
  const n = values.length, spare = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let best = i;
    for (let j = i + 1; j < n; j++) if (values[j]! > values[best]!) best = j;
    if (best === i) continue;
    [values[i], values[best]] = [values[best]!, values[i]!];
    const x = row(vectors, i, n), y = row(vectors, best, n);
    spare.set(x);
    x.set(y);
    y.set(spare);
  }
  return values;
}
