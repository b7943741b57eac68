/** Features of the WebAssembly engine of this machine, asked by modules that only such an engine takes. */

/** Features that kernels use, or might use. */
export interface WasmFeatures {
  /** Vectors of 128 bits: the kernels of the CPU need them. */
  readonly simd: boolean;
  /** Memory that workers share: they need it too. */
  readonly sharedMemory: boolean;
  /** Products of bytes in one instruction: errors are fed back by it, with the same bits as without. */
  readonly relaxedSimd: boolean;
}

/** `() -> v128` with the body `i32.const 0, i8x16.splat, i8x16.popcnt`. */
const SIMD_MODULE = [
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b], // types: () -> v128
  ...[0x03, 0x02, 0x01, 0x00], // functions: one of that type
  ...[0x0a, 0x0a, 0x01, 0x08, 0x00, 0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x62, 0x0b],
];

/** The same type, `i8x16.relaxed_swizzle` of two splats. */
const RELAXED_MODULE = [
  ...SIMD_MODULE.slice(0, 19),
  ...[0x0a, 0x0f, 0x01, 0x0d, 0x00, 0x41, 0x01, 0xfd, 0x0f, 0x41, 0x02, 0xfd, 0x0f],
  ...[0xfd, 0x80, 0x02, 0x0b],
];

/** Asks the engine. */
export function wasmFeatures(): WasmFeatures {
  return {
    simd: WebAssembly.validate(Uint8Array.from(SIMD_MODULE)),
    sharedMemory: hasSharedMemory(),
    relaxedSimd: WebAssembly.validate(Uint8Array.from(RELAXED_MODULE)),
  };
}

function hasSharedMemory(): boolean {
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return memory.buffer instanceof SharedArrayBuffer;
  } catch (error) {
    // How an engine without threads, or one that hides them, says no.
    if (error instanceof TypeError || error instanceof ReferenceError) return false;
    throw error;
  }
}
