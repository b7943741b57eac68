/** The tools of a chunk: kernels, memory, files, and a slot for its numbers. */

import type { CpuKernels } from "../../backend/backend.ts";
import type { Note } from "../note.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { GpuAccess } from "../gpu_requests.ts";
import type { Scratch } from "../scratch.ts";
import { SLOT_LENGTH } from "../layer_statistics.ts";

export type { Scratch };

/** Takes numbers that the kernels reach, for a slot: all 0. */
export function takeNumbers({ scratch }: { readonly scratch: Scratch }): Float64Array {
  return scratch.f64(SLOT_LENGTH).fill(0);
}

/** The surroundings of one chunk. */
export interface ChunkContext {
  readonly kernels: CpuKernels;
  /** Null if no task of the run compensates errors or merges LoRAs. */
  readonly linalg: LinalgContext | null;
  readonly scratch: Scratch;
  /** Null if the run has no GPU. */
  readonly gpu: GpuAccess | null;
  /** Fills `view` from input file number `file`. */
  read(file: number, view: Uint8Array, positionBytes: number): void;
  /** Writes `view` to the output; an address counts through all its files. */
  write(view: Uint8Array, address: number): void;
  /** Says what became of this tensor. */
  note(note: Note): void;
  /** SLOT_LENGTH numbers, zero on entry. */
  readonly slot: Float64Array;
}

/** State that all workers share while they work on one layer together. */
export interface TeamContext extends Omit<ChunkContext, "slot" | "linalg"> {
  /** With the team of all workers; its memory is this worker's own. */
  readonly linalg: LinalgContext;
  /**
   * Memory that all see. Every worker takes the same arrays in the same order, and gets the same ones.
   */
  readonly shared: Scratch;
  /** Takes the next chunk of the layer that nobody has, with a context that has its slot; null: none is left. */
  nextChunk(): { readonly index: number; readonly context: ChunkContext } | null;
  /** Reports that a chunk is done. */
  chunkDone(context: ChunkContext): void;
  /** The numbers of chunk `index`, for what the team finds before chunks are taken. */
  contextOf(index: number): ChunkContext;
}
