/**
 * Incoherence processing (QuIP: Chee et al., 2023; with Hadamard matrices: QuIP#, Tseng et al., 2024): a
 * weight W `[N, K]`, padded with zeros to powers of 2 `[P, Q]`, becomes
 *
 *     W' = H_P · diag(sign_row) · W · diag(sign_col) · H_Q
 *
 * with orthonormal Sylvester Hadamard matrices and random signs. All are their own inverses, so the same
 * steps in the other order bring W back. Every element of W' is a sum over all of W: outliers are spread,
 * and one scale per row fits all its columns. A Hessian H `[K, K]` of the inputs becomes
 * `H_Q · diag(sign_col) · H · diag(sign_col) · H_Q`.
 */

import { randomFor } from "../core/rng.ts";

/** Returns the power of 2 that `size` is padded to: 1 or more. */
export function paddedSize(size: number): number {
  let padded = 1;
  while (padded < size) padded *= 2;
  return padded;
}

/**
 * Returns `count` random signs, f32 of 1 and -1: the same for the same seed, tensor and side.
 *
 * @param key `seed` 0 or more; `name` of the weight; `side` its rows (outputs) or columns (inputs).
 */
export function randomSigns(
  count: number,
  { seed, name, side }: { seed: number; name: string; side: "row" | "col" },
): Float32Array {
  const next = randomFor(seed, `${name}:sign_${side}`);
  return Float32Array.from({ length: count }, () => (next() >>> 31) === 0 ? 1 : -1);
}
