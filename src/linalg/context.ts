/** The tools of every function of this folder: kernels, memory for scratch, fellow workers. */

import type { LinalgKernels } from "./linalg_kernels.ts";
import { SOLO, type Team } from "./team.ts";

/**
 * A stack of arrays: taken one after the other, given back together. `Arena` of the CPU backend is one
 * (its arrays are where its kernels can reach them), {@link HEAP} another.
 */
export interface Allocator {
  f32(count: number): Float32Array;
  f64(count: number): Float64Array;
  i8(count: number): Int8Array;
  i32(count: number): Int32Array;
  mark(): number;
  release(mark: number): void;
}

/** Arrays of the JavaScript heap, for the reference kernels. The garbage collector gives them back. */
export const HEAP: Allocator = Object.freeze<Allocator>({
  f32: (count: number) => new Float32Array(count),
  f64: (count: number) => new Float64Array(count),
  i8: (count: number) => new Int8Array(count),
  i32: (count: number) => new Int32Array(count),
  mark: () => 0,
  release: () => {},
});

/** Kernels, this worker's own scratch memory, and its team. */
export interface LinalgContext {
  readonly kernels: LinalgKernels;
  readonly memory: Allocator;
  readonly team: Team;
}

/** Returns a context of one thread. */
export function soloContext(kernels: LinalgKernels, memory: Allocator): LinalgContext {
  return { kernels, memory, team: SOLO };
}

/** Runs `body` and gives back what it took from the memory of `context`, also if it throws. */
export function withScratch<T>(context: LinalgContext, body: () => T): T {
  const mark = context.memory.mark();
  try {
    return body();
  } finally {
    context.memory.release(mark);
  }
}
