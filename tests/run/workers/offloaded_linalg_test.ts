import assert from "node:assert/strict";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { block, matrix } from "../../../src/linalg/matrix.ts";
import {
  type GpuAccess,
  type GpuRequest,
  packArrays,
  unpackArrays,
} from "../../../src/run/gpu_requests.ts";
import type { LinalgPlacement } from "../../../src/run/gpu_tasks.ts";
import { offloadedLinalg } from "../../../src/run/workers/offloaded_linalg.ts";

const PLACEMENT: LinalgPlacement = {
  leastProducts: 64,
  leastHadamard: 16,
  mostHadamard: 64,
  mostElements: 1024,
};

/** A device that marks what it was given, or fails. */
function fakeGpu(works: boolean): GpuAccess & { readonly requests: GpuRequest[] } {
  const requests: GpuRequest[] = [];
  return {
    requests,
    run(request) {
      requests.push(request);
      return works;
    },
    distrust(what) {
      throw new Error(what);
    },
  };
}

const ones = (rows: number, cols: number) =>
  matrix(new Float32Array(rows * cols).fill(1), rows, cols);

Deno.test("offloadedLinalg() gives the GPU what is large, and the CPU what is small", () => {
  const gpu = fakeGpu(true);
  const linalg = offloadedLinalg(referenceLinalg, gpu, PLACEMENT);
  const large = ones(4, 4);
  linalg.gemmF32(large, ones(4, 4), ones(4, 4), "set");
  assert.equal(gpu.requests.length, 1);
  assert.equal(large.data[0], 1, "the fake device computed nothing, and nothing else did");
  const small = ones(2, 2);
  linalg.gemmF32(small, ones(2, 2), ones(2, 2), "set");
  assert.equal(gpu.requests.length, 1);
  assert.equal(small.data[0], 2);
});

Deno.test("offloadedLinalg() does on the CPU what the GPU could not", () => {
  const gpu = fakeGpu(false);
  const linalg = offloadedLinalg(referenceLinalg, gpu, PLACEMENT);
  const c = ones(4, 4);
  linalg.gemmF32(c, ones(4, 4), ones(4, 4), "add");
  assert.deepEqual([...c.data], Array(16).fill(5));
  const x = ones(4, 4);
  linalg.hadamardRows(x);
  assert.deepEqual([...x.data.subarray(0, 4)], [2, 0, 0, 0]);
  assert.equal(gpu.requests.length, 2);
});

Deno.test("offloadedLinalg() keeps results between whose rows something else lies on the CPU", () => {
  const gpu = fakeGpu(true);
  const linalg = offloadedLinalg(referenceLinalg, gpu, PLACEMENT);
  const c = ones(8, 8);
  linalg.gemmF32(block(c, 0, 0, 4, 4), ones(4, 4), ones(4, 4), "set");
  assert.equal(gpu.requests.length, 0);
  assert.deepEqual([...c.data.subarray(0, 5)], [4, 4, 4, 4, 1]);
});

Deno.test("offloadedLinalg() leaves transforms beyond a threshold, and f64, to the CPU", () => {
  const gpu = fakeGpu(true);
  const linalg = offloadedLinalg(referenceLinalg, gpu, PLACEMENT);
  linalg.hadamardColumns(ones(16, 16));
  linalg.hadamardColumns(matrix(new Float64Array(16).fill(1), 4, 4));
  assert.equal(gpu.requests.length, 0);
  linalg.hadamardColumns(ones(8, 8));
  assert.equal(gpu.requests.length, 1);
});

Deno.test("unpackArrays() gives views of the same elements that packArrays() was given", () => {
  const buffer = new SharedArrayBuffer(1 << 16);
  const view = new Float32Array(buffer, 64, 8), codes = new Int8Array(buffer, 3, 5);
  view.set([1, 2, 3]);
  const given = { m: matrix(view, 2, 4), codes, mode: "set", n: 3 };
  const packed = structuredClone(packArrays(given));
  const got = unpackArrays<typeof given>(packed, buffer);
  got.m.data[1] = 9;
  assert.equal(view[1], 9);
  assert.deepEqual({ ...got, m: { ...got.m, data: 0 } }, {
    m: { ...matrix(0, 2, 4) },
    codes: new Int8Array(5),
    mode: "set",
    n: 3,
  });
  assert.equal(got.codes.byteOffset, 3);
  assert.throws(() => packArrays(new Uint16Array(1)), TypeError);
});
