/** The tools of a chunk: kernels, memory, files, and a slot for its numbers. */

import type { CpuKernels } from "../../backend/backend.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import type { Note } from "../note.ts";
import type { Task } from "../tasks.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { GpuAccess } from "../gpu_requests.ts";
import type { Scratch } from "../scratch.ts";
import { SLOT_LENGTH } from "../layer_statistics.ts";

export type { Scratch };

/** Takes numbers that the kernels reach, for a slot: all 0. */
export function takeNumbers({ scratch }: { readonly scratch: Scratch }): Float64Array {
  return scratch.f64(SLOT_LENGTH).fill(0);
}

/** Pairs of LoRAs in a worker's memory. */
export interface Pairs {
  /** Whether those of `source` are there; from now on they are. */
  has(source: MatrixSource): boolean;
}

/** The surroundings of one chunk. */
export interface ChunkContext {
  readonly kernels: CpuKernels;
  /** Null if no task of the run compensates errors or merges LoRAs. */
  readonly linalg: LinalgContext | null;
  readonly scratch: Scratch;
  /** Null if the run has no GPU. */
  readonly gpu: GpuAccess | null;
  /** Pairs of LoRAs that are left from the chunk before: see `merge_rect.ts`. Absent: none are. */
  readonly localPairs?: Pairs;
  /** Fills `view` from input file number `file`. */
  read(file: number, view: Uint8Array, positionBytes: number): void;
  /** Writes `view` to the output; an address counts through all its files. */
  write(view: Uint8Array, address: number): void;
  /** Says what became of this tensor. */
  note(note: Note): void;
  /** SLOT_LENGTH numbers, zero on entry. */
  readonly slot: Float64Array;
}

/** Work on the inputs of a layer that the next layer may find of use. */
export interface Kept {
  /**
   * Returns what the layer before has left, if it has the same inputs; else what `make` makes, which takes from the
   * memory of the team first of all. Every member calls it.
   */
  take<Inputs>(team: TeamContext, layer: FittedLayer<Inputs>): Inputs;
}

/** A layer that is fitted to its inputs. */
export interface FittedLayer<Inputs> {
  readonly task: Task;
  readonly compensation: Compensation;
  readonly make: () => Inputs;
}

/** State that all workers share while they work on one layer together. */
export interface TeamContext extends Omit<ChunkContext, "slot" | "linalg"> {
  /** With the team of all workers; its memory is this worker's own. */
  readonly linalg: LinalgContext;
  /**
   * Memory that all see. Every worker takes the same arrays in the same order, and gets the same ones.
   */
  readonly shared: Scratch;
  /** What the layer before has left in `shared`: see `kept_inputs.ts`. */
  readonly kept: Kept;
  /** Takes the next chunk of the layer that nobody has, with a context that has its slot; null: none is left. */
  nextChunk(): { readonly index: number; readonly context: ChunkContext } | null;
  /** Reports that a chunk is done. */
  chunkDone(context: ChunkContext): void;
  /** The numbers of chunk `index`, for what the team finds before chunks are taken. */
  contextOf(index: number): ChunkContext;
}
