import assert from "node:assert/strict";
import { wasmFeatures } from "../../../src/backend/select/wasm_features.ts";

Deno.test("wasmFeatures() finds what the kernels of this very engine use", () => {
  // Deno runs the kernels, so it has both; it has had relaxed SIMD since 1.32.
  assert.deepEqual(wasmFeatures(), { simd: true, sharedMemory: true, relaxedSimd: true });
});

Deno.test("wasmFeatures() finds nothing if the engine takes no such module", () => {
  const { validate, Memory } = WebAssembly;
  WebAssembly.validate = () => false;
  WebAssembly.Memory = class {
    constructor() {
      throw new TypeError("shared is not supported");
    }
  } as unknown as typeof WebAssembly.Memory;
  try {
    assert.deepEqual(wasmFeatures(), { simd: false, sharedMemory: false, relaxedSimd: false });
  } finally {
    Object.assign(WebAssembly, { validate, Memory });
  }
});
