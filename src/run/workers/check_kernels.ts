/**
 * Kernels of the CPU beside those of a run, with memory of their own that grows when needed: they check what a
 * GPU computes, and measure samples.
 */

import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
  STATICS_BYTES,
} from "../../backend/cpu/arena.ts";
import { WasmLinalg } from "../../backend/cpu/wasm_linalg.ts";
import { WasmKernels } from "../../backend/cpu/wasm_kernels.ts";
import type { CpuKernels } from "../../backend/backend.ts";
import type { LinalgKernels } from "../../linalg/linalg_kernels.ts";
import type { CheckKernels } from "../checks/gpu_check.ts";
import type { Scratch } from "../scratch.ts";

/** Bytes to begin with, besides what the linear algebra keeps. */
const LEAST_BYTES = 1 << 20;

/** Bytes for the alignment of a few dozen arrays. */
const SLACK_BYTES = 1 << 13;

/** The compiled modules of a run. */
export interface CheckModules {
  readonly kernels: WebAssembly.Module;
  /** Null if no task of the run needs any. */
  readonly linalg: WebAssembly.Module | null;
}

/** {@link CheckKernels} of one worker. Takes no memory before it is used. */
export class OwnCheckKernels implements CheckKernels {
  readonly #modules: CheckModules;
  #instance: Instance | null = null;

  constructor(modules: CheckModules) {
    this.#modules = modules;
  }

  get kernels(): CpuKernels {
    return this.#having(0).kernels;
  }

  get linalg(): LinalgKernels {
    const { linalg } = this.#having(0);
    if (linalg === null) throw new TypeError("Cannot check: no linear algebra was loaded");
    return linalg;
  }

  memory(bytes: number): Scratch {
    const { arena, start } = this.#having(bytes);
    arena.release(start);
    return arena;
  }

  #having(bytes: number): Instance {
    const have = this.#instance;
    if (have !== null && have.bytes >= bytes + SLACK_BYTES) return have;
    this.#instance = instanceOf(this.#modules, Math.max(LEAST_BYTES, bytes + SLACK_BYTES));
    return this.#instance;
  }
}

interface Instance {
  readonly kernels: WasmKernels;
  readonly linalg: WasmLinalg | null;
  readonly arena: Arena;
  /** Height of the arena if nothing is taken. */
  readonly start: number;
  readonly bytes: number;
}

function instanceOf(modules: CheckModules, bytes: number): Instance {
  const size = bytes + (modules.linalg === null ? 0 : LINALG_WORKSPACE_BYTES + SLACK_BYTES);
  const memory = createSharedMemory(STATICS_BYTES + size);
  const arena = new Arena(memory, STATICS_BYTES, size);
  const linalg = modules.linalg === null ? null : new WasmLinalg(modules.linalg, arena);
  const kernels = new WasmKernels(modules.kernels, memory);
  return { kernels, linalg, arena, start: arena.mark(), bytes };
}
