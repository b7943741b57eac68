/**
 * Checks of the results of a GPU during a run: some of it is computed again on the CPU and compared. A
 * driver may be right on the small problems of the self-test and wrong on large ones, without any error.
 *
 * The one who asks the GPU makes the check, as it knows what the answer should be; the way to the GPU
 * (`workers/gpu_client.ts`) carries it out. A check that fails ends the run: everything that the device
 * made is done again on the CPU (`convert/convert.ts`).
 */

import type { Kernels } from "../../backend/backend.ts";
import { type Random, randomFor } from "../../core/rng.ts";
import type { LinalgKernels } from "../../linalg/linalg_kernels.ts";
import type { Scratch } from "../scratch.ts";

/** Kernels of the CPU with memory of their own, so that checks take nothing of what a run has planned. */
export interface CheckKernels {
  readonly kernels: Kernels;
  readonly linalg: LinalgKernels;
  /** Empty memory of at least `bytes` that the kernels reach. Memory that it gave before may be. */
  memory(bytes: number): Scratch;
}

/** The check of one request. */
export interface GpuCheck {
  /** Keeps what the device is about to overwrite. Called before the request. */
  prepare?(): void;
  /** Returns what is wrong with the answer, for people; null: nothing that was looked at. */
  verify(cpu: CheckKernels): string | null;
}

/** A GPU gave a wrong result without an error. Nothing it made in this run may be used. */
export class WrongResultError extends Error {
  override readonly name = "WrongResultError";
}

/**
 * Returns `wanted` of `count` indices, ascending: the first, the last, and one from each of as many parts of
 * about the same size. The same ones for the same `random`.
 */
export function spread(count: number, wanted: number, random: Random): number[] {
  if (wanted >= count) return Array.from({ length: count }, (_, k) => k);
  const found = new Set<number>();
  if (wanted > 2) found.add(0).add(count - 1);
  const parts = Math.max(1, wanted - found.size);
  for (let part = 0; part < parts; part++) {
    const start = Math.floor(part * count / parts), end = Math.floor((part + 1) * count / parts);
    found.add(start + random() % Math.max(1, end - start));
  }
  return [...found].sort((a, b) => a - b);
}

/** The random numbers of a check: by what is checked, so that the same run checks the same places. */
export function randomOf(subject: string): Random {
  return randomFor(0, subject);
}

/** Returns where two arrays differ in a bit, NaN being one value, for people; null: nowhere. */
export function firstDifference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
): string | null {
  for (let i = 0; i < want.length; i++) {
    if (!Object.is(got[i], want[i])) return `at ${i} ${got[i]} instead of ${want[i]}`;
  }
  return null;
}
