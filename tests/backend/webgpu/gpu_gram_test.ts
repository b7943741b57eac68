import assert from "node:assert/strict";
import { findAdapter } from "../../../src/backend/webgpu/adapter.ts";
import { Gpu } from "../../../src/backend/webgpu/device.ts";
import { GpuGram } from "../../../src/backend/webgpu/gpu_gram.ts";
import { DeviceError } from "../../../src/core/errors.ts";
import { addGram, finishGram, type Hessian } from "../../../src/linalg/hessian.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { gptqRows, prepareGptq } from "../../../src/quant/gptq.ts";
import { normal } from "../../kernels/values.ts";
import { referenceContext, wasmContext } from "../../linalg/contexts.ts";
import { outputError, weights } from "../../linalg/matrices.ts";
import { testGpuOnly } from "../../support/gpu.ts";

/** Correlated inputs, some channels of much more energy. */
function inputs(seed: number, count: number, size: number): Float32Array {
  const gauss = normal(seed), x = new Float32Array(count * size);
  for (let r = 0; r < count; r++) {
    let last = 0;
    for (let j = 0; j < size; j++) {
      last = 0.7 * last + gauss();
      x[r * size + j] = last * (j % 37 === 5 ? 30 : 1);
    }
  }
  return x;
}

testGpuOnly(
  "GpuGram adds up the moments of several parts, below the diagonal only",
  async (gpu) => {
    for (const size of [1, 70, 513]) {
      using gram = await GpuGram.create(gpu, size);
      const parts = [64, 1, 130].map((count, k) => inputs(k, count, size));
      const want = matrix(new Float64Array(size * size), size, size);
      for (const part of parts) {
        await gram.add(part);
        addGram(referenceContext, want, matrix(part, part.length / size, size));
      }
      const got = new Float64Array(size * (size + 3)).fill(1);
      await gram.addTo(matrix(got, size, size, size + 3));
      got.forEach((value, at) => {
        const i = Math.floor(at / (size + 3)), j = at % (size + 3);
        if (j > i) return assert.equal(value, 1, `${size}: at ${i}, ${j}`);
        const energy = Math.sqrt(want.data[i * (size + 1)]! * want.data[j * (size + 1)]!);
        const error = Math.abs(value - 1 - want.data[i * size + j]!);
        assert(error <= 2e-6 * energy, `${size}: at ${i}, ${j} off by ${error / energy}`);
      });
    }
  },
);

testGpuOnly(
  "moments of a GpuGram lead to the codes of exact ones, but for 1 of 1,000",
  async (gpu) => {
    const size = 192,
      rows = 128,
      count = 600,
      x = inputs(7, count, size),
      w = weights(8, rows * size);
    using gram = await GpuGram.create(gpu, size);
    for (let start = 0; start < count; start += 256) {
      await gram.add(x.subarray(start * size, Math.min(count, start + 256) * size));
    }
    const { memory } = wasmContext, mark = memory.mark();
    const round = async (fill: (h: Float64Array) => Promise<void> | void) => {
      const values = memory.f64(size * size).fill(0), h = matrix(values, size, size);
      await fill(values);
      finishGram(wasmContext, h, count);
      const hessian: Hessian = { size, blockSize: size, values, source: "activations" };
      const plain = values.slice();
      const factor = prepareGptq(wasmContext, hessian, { actOrder: true, damping: 0.01 });
      const errors = memory.f32(w.length), codes = memory.i8(w.length);
      const scales = memory.f32(rows).fill(0.001);
      errors.set(w);
      const grid = { rows, cols: size, groupRows: 1, groupCols: size };
      gptqRows(wasmContext, factor, { weights: errors, codes, firstRow: 0, grid, scales });
      return { codes, errors, plain };
    };
    const exact = await round((values) => {
      const own = memory.f32(x.length);
      own.set(x);
      addGram(wasmContext, matrix(values, size, size), matrix(own, count, size));
    });
    const near = await round((values) => gram.addTo(matrix(values, size, size)));
    const differ = near.codes.filter((code, i) => code !== exact.codes[i]).length;
    assert(differ < 1e-3 * w.length, `${differ} of ${w.length} codes differ`);
    const ratio = outputError(near.errors, exact.plain, size) /
      outputError(exact.errors, exact.plain, size);
    assert(Math.abs(ratio - 1) < 0.001, `output error ${ratio}`);
    memory.release(mark);
  },
);

testGpuOnly("GpuGram refuses parts of rows, and reports a device that was lost", async () => {
  const gpu = await Gpu.open((await findAdapter())!);
  using gram = await GpuGram.create(gpu, 8);
  await assert.rejects(gram.add(new Float32Array(12)), /12 values of 8 channels/);
  gpu.device.destroy();
  await assert.rejects(gram.add(new Float32Array(8)), DeviceError);
  await gpu.device.lost;
  await assert.rejects(GpuGram.create(gpu, 8), gpu.failure!);
});
