/** The backends of CPUs, and arrays for kernels that only they have. */

import { type CpuKernels, STATS_LENGTH } from "../../src/backend/backend.ts";
import { Arena, createSharedMemory } from "../../src/backend/cpu/arena.ts";
import { WasmKernels } from "../../src/backend/cpu/wasm_kernels.ts";
import { compileKernels } from "../../src/backend/cpu/wasm_module.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";

const MEMORY_BYTES = 4 << 20;
const memory = createSharedMemory(MEMORY_BYTES);

/** The reference first. */
export const CPU_BACKENDS: readonly CpuKernels[] = [
  referenceKernels,
  new WasmKernels(compileKernels(), memory),
];

/** Arrays of a kernel, copied to where it reaches them: a guard byte in front keeps them unaligned. */
export class CpuRoom {
  readonly #arena: Arena | null;
  readonly kernels: CpuKernels;
  constructor(kernels: CpuKernels) {
    this.kernels = kernels;
    this.#arena = kernels.name === "wasm" ? new Arena(memory, 0, MEMORY_BYTES) : null;
  }
  f32(data: Float32Array): Float32Array {
    const view = this.#arena?.f32(data.length + 1).subarray(1) ?? new Float32Array(data.length);
    view.set(data);
    return view;
  }
  f64(data: ArrayLike<number>): Float64Array {
    const view = this.#arena?.f64(data.length + 1).subarray(1) ?? new Float64Array(data.length);
    view.set(data);
    return view;
  }
  u8(data: Uint8Array): Uint8Array {
    const view = this.#arena?.u8(data.length + 2).subarray(2) ?? new Uint8Array(data.length);
    view.set(data);
    return view;
  }
  i8(count: number): Int8Array {
    return (this.#arena?.i8(count + 1).subarray(1) ?? new Int8Array(count)).fill(0x55);
  }
  stats(): Float64Array {
    return (this.#arena?.f64(STATS_LENGTH) ?? new Float64Array(STATS_LENGTH)).fill(0);
  }
}
