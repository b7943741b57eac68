/** Seeded matrices, and the plain f64 algorithms that results are compared with. */

import { roundHalfEven } from "../../src/backend/reference/round_half_even.ts";
import { normal, uniform } from "../kernels/values.ts";

/** A symmetric positive definite f64 `[n, n]`: correlated channels of very different energy. */
export function positiveDefinite(seed: number, n: number): Float64Array {
  const next = uniform(seed), gauss = normal(seed + 1), rank = Math.ceil(n / 3);
  const directions = Float64Array.from({ length: rank * n }, gauss);
  const spread = Float64Array.from({ length: n }, () => next() < 0.1 ? 5 : 0.5 + next());
  const h = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 0.3 * rank : 0;
      for (let k = 0; k < rank; k++) sum += directions[k * n + i]! * directions[k * n + j]!;
      h[i * n + j] = h[j * n + i] = sum * spread[i]! * spread[j]!;
    }
  }
  return h;
}

/** The lower Cholesky factor of `h`, f64 `[n, n]`, zeros above. */
export function plainCholesky(h: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = h[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  }
  return l;
}

/** LDLQ one column after the other, all in f64: codes of `rows` rows. `scaleOf` is that of an element. */
export function plainLdlq(
  weights: Float32Array,
  h: Float64Array,
  n: number,
  scaleOf: (row: number, col: number) => number,
): Int8Array {
  const l = plainCholesky(h, n), codes = new Int8Array(weights.length);
  const errors = new Float64Array(n);
  for (let r = 0; r < weights.length / n; r++) {
    for (let j = n - 1; j >= 0; j--) {
      const w = weights[r * n + j]!, scale = scaleOf(r, j);
      let value = w;
      for (let k = j + 1; k < n; k++) value += (errors[k]! * l[k * n + j]!) / l[j * n + j]!;
      const code = Math.max(-127, Math.min(127, roundHalfEven(value / scale)));
      codes[r * n + j] = code;
      errors[j] = w - code * scale;
    }
  }
  return codes;
}

/** tr(E H Eᵀ) of the errors `e`, f32 `[rows, n]`. */
export function outputError(e: ArrayLike<number>, h: Float64Array, n: number): number {
  let total = 0;
  for (let r = 0; r < e.length / n; r++) {
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += h[i * n + j]! * e[r * n + j]!;
      total += e[r * n + i]! * sum;
    }
  }
  return total;
}

/** Heavy-tailed weights, f32. */
export function weights(seed: number, count: number): Float32Array {
  const gauss = normal(seed);
  return Float32Array.from({ length: count }, () => 0.02 * gauss() * (1 + 0.5 * gauss() ** 2));
}
