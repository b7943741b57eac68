import assert from "node:assert/strict";
import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
} from "../../../src/backend/cpu/arena.ts";
import { compileLinalg, type LinalgExports } from "../../../src/backend/cpu/linalg_module.ts";
import { WasmLinalg } from "../../../src/backend/cpu/wasm_linalg.ts";
import { instantiate, MEMORY_MAX_BYTES } from "../../../src/backend/cpu/instantiate.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { matrix, transpose } from "../../../src/linalg/matrix.ts";
import { assertSameBits } from "../subject.ts";
import { values } from "../values.ts";

Deno.test("LINALG_WORKSPACE_BYTES is what the kernels use", () => {
  const exports = instantiate<LinalgExports>(compileLinalg(), createSharedMemory(1 << 16));
  assert.equal(exports.gemmWorkspaceBytes(), LINALG_WORKSPACE_BYTES);
});

Deno.test("WasmLinalg rejects arrays of another memory", () => {
  const bytes = LINALG_WORKSPACE_BYTES + 4096;
  const linalg = new WasmLinalg(compileLinalg(), new Arena(createSharedMemory(bytes), 0, bytes));
  const foreign = matrix(new Float64Array(4), 2, 2);
  assert.throws(
    () => linalg.choleskyBlock(foreign, 0),
    /Cannot run choleskyBlock: an array does not lie in the memory of the kernels/,
  );
});

Deno.test("WasmLinalg gives the same at addresses beyond 2 GiB, up to the last byte of 4 GiB", () => {
  const m = 9, n = 13, k = 300, memory = createSharedMemory(MEMORY_MAX_BYTES);
  const a = values(1, m * k, "plain"), b = values(2, n * k, "plain");
  const want = new Float32Array(m * n);
  referenceLinalg.gemmF32(matrix(want, m, n), matrix(a, m, k), transpose(matrix(b, n, k)), "set");
  const size = LINALG_WORKSPACE_BYTES + 4 * (m * n + m * k + n * k) + 4 * 64;
  for (const base of [2 ** 31 - 4096, MEMORY_MAX_BYTES - size]) {
    const arena = new Arena(memory, base, size);
    const x = arena.f32(m * k),
      out = arena.f32(m * n),
      linalg = new WasmLinalg(compileLinalg(), arena);
    const y = new Float32Array(memory.buffer, base + size - 4 * n * k, n * k);
    x.set(a);
    y.set(b);
    linalg.gemmF32(matrix(out, m, n), matrix(x, m, k), transpose(matrix(y, n, k)), "set");
    assertSameBits(out, want, `at ${base}`);
  }
});
