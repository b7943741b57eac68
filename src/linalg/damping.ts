/**
 * Damping: H + lambda * I, so that the factorisation exists and rounding does not chase directions in
 * which the calibration data happened to have no energy.
 *
 * lambda is a fraction of the mean diagonal element. If a pivot falls below half of lambda, which only
 * an indefinite matrix brings about (or one that is far from symmetric positive definite by rounding),
 * the fraction is raised tenfold and the factorisation starts again, up to {@link DAMPING_MAX}. So a factor
 * that is accepted has bounded entries: its condition is at most 2 n / fraction.
 *
 * Damping is also what lets products of the factorisation be made in f32: if all that this can change
 * is, in norm, below half of lambda ({@link SINGLE_ERROR}), the factor belongs to H damped by something
 * between lambda / 2 and 3 lambda / 2 in every direction. That is so for up to about 10,000 channels at the
 * default fraction. If it fails nevertheless, f64 has the last word.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { cholesky, planCholesky, restoreLower, SINGLE_ERROR } from "./cholesky.ts";
import { type LinalgContext, withScratch } from "./context.ts";
import type { MatrixF64 } from "./matrix.ts";
import { shareOf } from "./team.ts";

/** The smallest pivot without damping, relative to the mean: what rounding errors of f64 may leave. */
const PIVOT_MIN = 1e-12;

/** Diagonal elements for which products in f32 neither overflow nor lose digits. */
const SINGLE_RANGE = { least: 1e-25, most: 1e30 };

/** The default fraction. */
export const DAMPING_DEFAULT = 0.1;

/** The largest fraction that is tried: rounding is then next to plain rounding to nearest. */
export const DAMPING_MAX = 10;

/** The factor on the fraction between attempts, and the fraction after 0. */
const STEP = 10, AFTER_ZERO = 0.01;

/** Returns the fractions that are tried one after the other, `first` (0 or more) at least. */
export function dampingsFrom(first: number): number[] {
  const dampings = [first];
  while (dampings.at(-1)! < DAMPING_MAX) {
    dampings.push(Math.min(DAMPING_MAX, Math.max(dampings.at(-1)! * STEP, AFTER_ZERO)));
  }
  return dampings;
}

/**
 * Replaces the lower triangle of `h` by the Cholesky factor of H + damping * mean * I, with the first of
 * `dampings` that is enough. A channel without any energy gets the mean, so that its weights are rounded
 * plainly.
 *
 * @param h f64 `[n, n]`, symmetric, both triangles filled; the upper one stays. Shared by the team.
 * @param mean the mean diagonal element that fractions refer to; above 0.
 * @returns the index of the damping, or the number of dampings if none was enough.
 */
export function dampedCholesky(
  context: LinalgContext,
  h: MatrixF64,
  dampings: readonly number[],
  mean: number,
): number {
  const { memory, team } = context;
  const n = h.rows;
  return withScratch(context, () => {
    const diagonal = memory.f64(n);
    for (let i = 0; i < n; i++) {
      const energy = h.data[i * h.rowStride + i]!;
      diagonal[i] = energy === 0 ? mean : energy;
    }
    team.barrier(); // everyone has read the diagonal before anyone changes it
    const rows = shareOf(team, 0, n);
    const largest = diagonal.reduce((most, energy) => Math.max(most, energy), 0);
    const trace = diagonal.reduce((sum, energy) => sum + energy, 0);
    const isInRange = mean >= SINGLE_RANGE.least && largest <= SINGLE_RANGE.most;
    const factorDamped = (lambda: number, single: boolean): boolean => {
      for (let i = rows.start; i < rows.end; i++) {
        h.data[i * h.rowStride + i] = diagonal[i]! + lambda;
      }
      team.barrier();
      if (cholesky(context, h, Math.max(lambda / 2, PIVOT_MIN * mean), single) < 0) return true;
      restoreLower(h, diagonal, rows.start, rows.end);
      return false;
    };
    for (let attempt = 0; attempt < dampings.length; attempt++) {
      const lambda = dampings[attempt]! * mean;
      const isSafe = isInRange && SINGLE_ERROR * (trace + n * lambda) <= lambda / 2;
      if (isSafe && factorDamped(lambda, true)) return attempt;
      if (factorDamped(lambda, false)) return attempt;
    }
    return dampings.length;
  });
}

/** Counts what each member takes in {@link dampedCholesky} for a matrix of order `n`. */
export function planDampedCholesky(memory: CountedMemory, n: number): void {
  memory.within(() => {
    memory.f64(n);
    planCholesky(memory, n);
  });
}
