/** Contexts to run the linear algebra in: the reference on the heap, and the WASM kernels. */

import { Arena, createSharedMemory } from "../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../src/backend/cpu/linalg_module.ts";
import { WasmLinalg } from "../../src/backend/cpu/wasm_linalg.ts";
import { referenceLinalg } from "../../src/backend/reference/linalg/reference_linalg.ts";
import { type Allocator, HEAP, type LinalgContext, soloContext } from "../../src/linalg/context.ts";
import type { Hessian } from "../../src/linalg/hessian.ts";

export const referenceContext: LinalgContext = soloContext(referenceLinalg, HEAP);

const BYTES = 96 << 20;
const arena = new Arena(createSharedMemory(BYTES), 0, BYTES);

/** One thread of WASM kernels, with about 90 MiB. */
export const wasmContext: LinalgContext = soloContext(
  new WasmLinalg(compileLinalg(), arena),
  arena,
);

/** Registers `name` as a test per context. What a test takes from the memory is given back. */
export function testEachContext(name: string, body: (context: LinalgContext) => void): void {
  for (const context of [referenceContext, wasmContext]) {
    Deno.test(`${name} [${context.kernels.name}]`, () => {
      const mark = context.memory.mark();
      try {
        body(context);
      } finally {
        context.memory.release(mark);
      }
    });
  }
}

/** Returns a copy of `values` in `memory`. */
export function put<T extends Float32Array | Float64Array | Int32Array>(
  memory: Allocator,
  values: T,
): T {
  const copy = values instanceof Float32Array
    ? memory.f32(values.length)
    : values instanceof Float64Array
    ? memory.f64(values.length)
    : memory.i32(values.length);
  copy.set(values);
  return copy as T;
}

/** Returns a copy of `hessian` in `memory`. */
export function putHessian(memory: Allocator, hessian: Hessian): Hessian {
  return { ...hessian, values: put(memory, hessian.values) };
}
