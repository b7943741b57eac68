import assert from "node:assert/strict";
import { Arena, createSharedMemory } from "../../src/backend/cpu/arena.ts";
import { WasmKernels } from "../../src/backend/cpu/wasm_kernels.ts";
import { MEMORY_MAX_BYTES } from "../../src/backend/cpu/instantiate.ts";
import { compileKernels } from "../../src/backend/cpu/wasm_module.ts";
import { assertSameBits, BACKENDS, testEachBackend } from "./subject.ts";
import { values } from "./values.ts";

testEachBackend(
  "kernels reject arrays that do not fit their grid, before writing",
  async (subject) => {
    const grid = { rows: 2, cols: 8, groupRows: 1, groupCols: 4 };
    const x = subject.input(new Float32Array(16)), scales = subject.input(new Float32Array(4));
    const codes = subject.input(new Int8Array(16));
    const { kernels } = subject;
    const rejected = async (run: () => unknown, message: RegExp) => {
      await assert.rejects(async () => await run(), message);
    };
    await rejected(
      () => kernels.quantize(codes.subarray(1), x, scales, grid),
      /Cannot run quantize: codes has 15 elements, needs 16/,
    );
    await rejected(
      () => kernels.absmax(scales.subarray(1), x, grid),
      /Cannot run absmax: out has 3 elements, needs 4/,
    );
    await rejected(
      () => kernels.searchScale(scales, x, { ...grid, groupCols: 3 }),
      /Cannot run searchScale: groups of 1 x 3 do not tile 2 x 8/,
    );
    await rejected(
      () => kernels.dequantize(x, codes, scales, { ...grid, groupRows: 0 }),
      /Cannot run dequantize: groups of 0 x 4 do not tile 2 x 8/,
    );
    await rejected(
      () => kernels.rotate(x, 8),
      /Cannot run rotate: group size 8 is not a power of 4/,
    );
    await rejected(
      () => kernels.rotate(x, 64),
      /Cannot run rotate: group size 64 does not divide 16 elements/,
    );
    await rejected(
      () => kernels.decode(x, subject.input(new Uint8Array(33)), "BF16"),
      /Cannot run decode: source has 33 elements, needs 32/,
    );
    await rejected(
      () => kernels.castF16(subject.input(new Uint16Array(15)), x),
      /Cannot run castF16: arrays of 15 and 16 elements differ/,
    );
    await rejected(
      () => kernels.errorStats(subject.input(new Float64Array(5)), x, x),
      /Cannot run errorStats: stats has 5 elements, needs 6/,
    );
    await rejected(
      () => kernels.histogram(subject.input(new Uint32Array(0)), x, 1),
      /Cannot run histogram: counts has no elements/,
    );
  },
);

Deno.test("WasmKernels rejects arrays of another memory", () => {
  const kernels = new WasmKernels(compileKernels(), createSharedMemory(65536));
  const foreign = new Arena(createSharedMemory(65536), 0, 65536).f32(16);
  assert.throws(
    () => kernels.rotate(foreign, 16),
    /Cannot run rotate: an array does not lie in the memory of the kernels/,
  );
});

Deno.test("WasmKernels gives the same at addresses beyond 2 GiB, up to the last byte of 4 GiB", () => {
  const memory = createSharedMemory(MEMORY_MAX_BYTES);
  const kernels = new WasmKernels(compileKernels(), memory);
  const x = values(4, 3 * 256, "plain");
  const grid = { rows: 3, cols: 256, groupRows: 1, groupCols: 256 };
  const run = (arena: Arena, work: Pick<WasmKernels, "rotate" | "quantize" | "searchScale">) => {
    const codes = arena.i8(768), scales = arena.f32(3), data = arena.f32(768);
    data.set(x);
    scales.fill(0.001);
    work.rotate(data, 256);
    work.searchScale(scales, data, grid);
    work.quantize(codes, data, scales, grid);
    return { data, codes, end: data.byteOffset + data.byteLength };
  };
  const size = 768 + 64 + 3072; // codes, scales, data
  const plain = new Arena(createSharedMemory(size), 0, size);
  const want = run(plain, BACKENDS[0]!.kernels as unknown as WasmKernels);
  for (const base of [2 ** 31 - 2048, 3 * 2 ** 30, MEMORY_MAX_BYTES - size]) {
    const got = run(new Arena(memory, base, size), kernels);
    assertSameBits(got.data, want.data, `rotated at ${base}`);
    assertSameBits(got.codes, want.codes, `codes at ${base}`);
    if (base + size === MEMORY_MAX_BYTES) assert.equal(got.end, MEMORY_MAX_BYTES);
  }
});
