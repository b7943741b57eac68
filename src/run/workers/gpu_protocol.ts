/** Messages between the main thread, the workers and the owner of the GPU. */

import type { PlainError } from "../../core/plain_error.ts";
import type { GpuWork } from "../../backend/backend.ts";
import type { AdapterInfo } from "../../backend/webgpu/adapter.ts";

/** The times that a device is given. */
export interface GpuTimes {
  /** Milliseconds for anything, and for each workgroup; see `Deadlines`. Default: its own. */
  readonly baseMs?: number;
  readonly workgroupMs?: number;
  /** Milliseconds beyond what the owner said. */
  readonly graceMs?: number;
}

/** The first message to a worker that shall own the GPU. */
export interface GpuStartMessage {
  readonly kind: "gpu";
  /** Int32: see GPU_STATE. */
  readonly state: SharedArrayBuffer;
  readonly times: GpuTimes;
}

/** A worker that will ask, for the length of a run. */
export interface GpuConnectMessage {
  readonly kind: "connect";
  readonly port: MessagePort;
  readonly memory: WebAssembly.Memory;
  /** Int32 `[1]`: see GPU_ANSWER. */
  readonly answer: SharedArrayBuffer;
}

/** Asks whether the device computes rightly what `work` needs. */
export interface GpuProveMessage {
  readonly kind: "prove";
  readonly work: readonly GpuWork[];
}

export type GpuMessage = GpuStartMessage | GpuConnectMessage | GpuProveMessage;

/** Int32 cells that all see. */
export const GPU_STATE = Object.freeze({
  /** Not 0: the device can no longer be used, and nobody asks. See GPU_FAILED. */
  failed: 0,
  /** How many requests it has done. */
  done: 1,
  /** How many results the owner is copying to the memory of others. */
  copying: 2,
  /** When the owner will be done with what it has at the latest, in seconds since 1970. */
  untilS: 3,
  /** How long the others checked its answers, added up, in units of 10 µs. */
  checked: 4,
  length: 5,
});

/** Values of the cell a worker waits at. */
export const GPU_ANSWER = Object.freeze({ waiting: 0, done: 1, failed: 2 });

/** Messages of the owner of the GPU to the main thread. */
export type GpuReport =
  | {
    readonly kind: "ready";
    readonly adapter: AdapterInfo;
  }
  /** The answer to "prove": why nothing may be given to it; null: all is well. */
  | { readonly kind: "proven"; readonly distrust: string | null }
  /** There is no device to begin with. */
  | { readonly kind: "unavailable"; readonly error: PlainError }
  /** It failed; what it had been given is done on the CPU. */
  | { readonly kind: "failed"; readonly error: PlainError };
