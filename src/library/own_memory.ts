/** Kernels with memory of their own for one call, on the calling thread: what library functions work with. */

import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
  STATICS_BYTES,
} from "../backend/cpu/arena.ts";
import { compileLinalg } from "../backend/cpu/linalg_module.ts";
import { WasmKernels } from "../backend/cpu/wasm_kernels.ts";
import { WasmLinalg } from "../backend/cpu/wasm_linalg.ts";
import { compileKernels } from "../backend/cpu/wasm_module.ts";

/** Compiled once: modules are immutable, and compiling takes longer than a small product. */
const compiled: { kernels?: WebAssembly.Module; linalg?: WebAssembly.Module } = {};

/** Kernels, and the memory that they work on. */
export interface OwnMemory {
  readonly kernels: WasmKernels;
  readonly linalg: WasmLinalg;
  /** For arrays that are taken and given back. */
  readonly memory: Arena;
  /** A second one beside it. */
  readonly shared: Arena;
}

/** Room for the alignment of arrays. */
const SLACK_BYTES = 1 << 16;

/**
 * Runs `body` with `bytes` of memory for arrays, and `sharedBytes` more for those that workers would share.
 *
 * @throws RangeError if that is more than a WebAssembly memory can have.
 */
export function withOwnMemory<T>(
  bytes: number,
  body: (own: OwnMemory) => T,
  sharedBytes = 0,
): T {
  compiled.kernels ??= compileKernels();
  compiled.linalg ??= compileLinalg();
  const size = bytes + LINALG_WORKSPACE_BYTES + SLACK_BYTES;
  const wasm = createSharedMemory(STATICS_BYTES + sharedBytes + size);
  const memory = new Arena(wasm, STATICS_BYTES + sharedBytes, size);
  return body({
    kernels: new WasmKernels(compiled.kernels, wasm),
    linalg: new WasmLinalg(compiled.linalg, memory),
    memory,
    shared: new Arena(wasm, STATICS_BYTES, sharedBytes),
  });
}
