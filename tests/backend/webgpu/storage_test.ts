import assert from "node:assert/strict";
import { Batch } from "../../../src/backend/webgpu/batch.ts";
import type { Gpu } from "../../../src/backend/webgpu/device.ts";
import {
  gpuBlock,
  type GpuMatrix,
  gpuMatrix,
  recordGemm,
  recordNarrow,
} from "../../../src/backend/webgpu/record_matrix.ts";
import type { Storage } from "../../../src/backend/webgpu/storage.ts";
import { f16ToF32, f32ToF16 } from "../../../src/core/dtype.ts";
import { testGpuOnly } from "../../support/gpu.ts";
import { values } from "../../kernels/values.ts";

/** Returns `x`, row-major with rows of `rowStride`, after storing columns 3 .. 3 + cols. */
async function narrowed(
  gpu: Gpu,
  x: Float32Array,
  { rows, cols, rowStride, gain }: {
    rows: number;
    cols: number;
    rowStride: number;
    gain: number;
  },
): Promise<Uint16Array> {
  const width = cols + cols % 2, batch = new Batch("narrow");
  const out = batch.input("out", new Uint16Array(rows * width).fill(0x1234));
  const from = gpuMatrix(batch.input("x", x), { rows, cols: rowStride });
  recordNarrow(
    batch,
    gpuMatrix(out, { rows, cols, rowStride: width, storage: "f16" }),
    gpuBlock(from, 0, 3, rows, cols),
    gain,
  );
  const got = new Uint16Array(rows * width);
  batch.output(out, got);
  await batch.run(gpu);
  return got;
}

testGpuOnly(
  "recordNarrow() rounds to the nearest F16, and fills up words",
  async (gpu) => {
    for (const [rows, cols] of [[1, 1], [5, 8], [7, 33]] as const) {
      const rowStride = cols + 5, gain = 4;
      for (const flavor of ["plain", "ties", "outlier"] as const) {
        const x = values(cols, rows * rowStride, flavor);
        const got = await narrowed(gpu, x, { rows, cols, rowStride, gain });
        const width = cols + cols % 2;
        got.forEach((bits, i) => {
          const col = i % width, row = Math.floor(i / width);
          const value = col < cols ? x[row * rowStride + 3 + col]! * gain : 0;
          assert.equal(
            bits,
            f32ToF16(value),
            `${rows} x ${cols}, ${flavor}, at ${i}: ${value}`,
          );
        });
      }
    }
  },
);

testGpuOnly(
  "recordNarrow() clamps to the range of F16",
  async (gpu) => {
    const x = Float32Array.of(0, 0, 0, 1e6, -1e6, 65520, Infinity);
    const shape = { rows: 1, cols: 4, rowStride: 7, gain: 1 };
    const clamped = await narrowed(gpu, x, shape);
    assert.deepEqual([...clamped].map(f16ToF32), [65504, -65504, 65504, 65504]);
  },
);

/** Uploads `data` as `storage` has it; returns too what its numbers then are. */
function stored(
  batch: Batch,
  data: Float32Array,
  shape: { rows: number; cols: number },
  storage: Storage,
): { matrix: GpuMatrix; exact: Float32Array } {
  if (storage === "f32") return { matrix: gpuMatrix(batch.input("x", data), shape), exact: data };
  const bits = Uint16Array.from(data, f32ToF16);
  const matrix = gpuMatrix(batch.input("x", bits), { ...shape, storage });
  return { matrix, exact: Float32Array.from(bits, f16ToF32) };
}

/** Drivers that compute on the CPU take seconds to compile one: these suffice to see all. */
const PRODUCTS = [["f32", "f32"], ["f16", "f16"]] as const;

for (const [a, b] of PRODUCTS) {
  testGpuOnly(`recordGemm() multiplies ${a} by ${b} as the numbers are stored`, async (gpu) => {
    // Odd sizes and starts: numbers then lie in either half of a word.
    const m = 67, n = 35, k = 51, gain = 0.25, batch = new Batch("product");
    const left = stored(batch, values(1, m * k, "plain"), { rows: m, cols: k }, a);
    const right = stored(batch, values(2, k * n, "plain"), { rows: k, cols: n }, b);
    const before = values(3, m * n, "plain"), slot = batch.input("C", before);
    recordGemm(batch, gpuBlock(gpuMatrix(slot, { rows: m, cols: n }), 1, 1, m - 1, n - 1), {
      a: gpuBlock(left.matrix, 1, 3, m - 1, k - 3),
      b: gpuBlock(right.matrix, 3, 1, k - 3, n - 1),
      mode: "subtract",
      gain,
    });
    const got = new Float32Array(m * n);
    batch.output(slot, got);
    await batch.run(gpu);
    got.forEach((value, at) => {
      const i = Math.floor(at / n), j = at % n;
      let want = before[at]!;
      for (let t = 3; i > 0 && j > 0 && t < k; t++) {
        want -= gain * left.exact[i * k + t]! * right.exact[t * n + j]!;
      }
      assert(Math.abs(value - want) < 1e-7, `at ${i}, ${j}: want ${want}, got ${value}`);
    });
  });
}
