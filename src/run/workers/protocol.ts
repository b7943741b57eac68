/** Messages between the main thread and its workers. Plain data only. */

import type { PlainError } from "../../core/plain_error.ts";
import type { InputPath } from "../../remote/input_path.ts";
import type { OutputPlace } from "../../safetensors/output_place.ts";
import type { WrittenBytes } from "../../safetensors/written_bytes.ts";
import type { Note } from "../note.ts";
import type { SharedTasks } from "../shared_tasks.ts";
import type { GpuLink } from "./gpu_client.ts";

/** Int32 cells of the control block; the rest counts the open chunks of each task. */
export const CONTROL = Object.freeze({ nextChunk: 0, stop: 1, openChunks: 2 });

/**
 * A value in a message. Deno looks for ports in everything that a message holds, number by number in typed arrays
 * (a second for the LoRA of a large model), but not in a Map.
 */
export type Unsearched<Value> = ReadonlyMap<"value", Value>;

/** Wraps a value for a message. */
export function unsearched<Value>(value: Value): Unsearched<Value> {
  return new Map([["value", value]]);
}

/** A run, as each worker gets it. */
export interface RunMessage {
  readonly module: WebAssembly.Module;
  /** The linear algebra; null if no task compensates errors or merges LoRAs. */
  readonly linalgModule: WebAssembly.Module | null;
  /** Whether tasks need code that a worker does not have from its start. */
  readonly loadsMoreKinds: boolean;
  readonly memory: WebAssembly.Memory;
  /** This worker's region of the memory. */
  readonly arenaBase: number;
  readonly arenaBytes: number;
  /** The end of that region: what layers that it does alone take besides their bands. */
  readonly aloneBytes: number;
  /** The region that all workers see, for what they do together. */
  readonly sharedBase: number;
  readonly sharedBytes: number;
  /** This worker's place among all of the run. */
  readonly index: number;
  readonly workers: number;
  /** The way to the GPU; null: there is none. */
  readonly gpu: GpuLink | null;
  /** Int32: see `createTeamControl`. */
  readonly teamControl: SharedArrayBuffer;
  readonly inputPaths: readonly InputPath[];
  /** The partial files, which exist; none if nothing is written. */
  readonly outputs: readonly OutputPlace[];
  readonly tasks: Unsearched<SharedTasks>;
  /** Int32: see CONTROL. */
  readonly control: SharedArrayBuffer;
  /** Float64: SLOT_LENGTH numbers per chunk. */
  readonly slots: SharedArrayBuffer;
  /** Uint8 per chunk: 1 once all of it was written; those are left out. */
  readonly done: SharedArrayBuffer;
  /** Tasks of which nothing is left to do. */
  readonly doneTasks: ReadonlySet<number>;
  /** Whether checksums of what is written are asked for. */
  readonly recordsWrites: boolean;
}

/** Messages of a worker. */
export type WorkerMessage =
  | { readonly kind: "taskDone"; readonly task: number }
  /** Result of a tensor. Comes before its `taskDone`. */
  | { readonly kind: "note"; readonly task: number; readonly note: Note }
  /**
   * Written pieces of a chunk, before it counts as done. Of a task that all workers do together each worker
   * says once what it wrote, under the task's first chunk.
   */
  | { readonly kind: "written"; readonly chunk: number; readonly written: readonly WrittenBytes[] }
  /** A value that cannot be quantized was met in this task; the run stops. */
  | { readonly kind: "nonFinite"; readonly task: number }
  /** The worker has left the run. */
  | { readonly kind: "finished" }
  | WorkFailure;

/** A worker could not continue. */
export interface WorkFailure {
  readonly kind: "failed";
  /** The task it was at; -1: none yet. */
  readonly task: number;
  readonly error: PlainError;
}
