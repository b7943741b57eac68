/**
 * Times rounding, products and LDLQ on the GPU of this machine, whichever it is: random weights, a random factor.
 * The host share is the part of the time in which no kernel ran.
 *
 *     deno run -A scripts/bench_gpu.ts [cols] [rows]      default 1024 x 1024
 */

import process from "node:process";
import { findAdapter } from "../src/backend/webgpu/adapter.ts";
import { Batch, type BatchTimes } from "../src/backend/webgpu/batch.ts";
import { Gpu } from "../src/backend/webgpu/device.ts";
import { GpuFactor } from "../src/backend/webgpu/gpu_factor.ts";
import { ldlqRows } from "../src/backend/webgpu/ldlq_rows.ts";
import { gpuMatrix, recordGemm, recordHadamard } from "../src/backend/webgpu/record_matrix.ts";
import { quantizeRect } from "../src/backend/webgpu/quantize_rect.ts";
import { storageBytes, STORAGES } from "../src/backend/webgpu/storage.ts";
import { matrix } from "../src/linalg/matrix.ts";

const cols = Number(process.argv[2] ?? 1024), rows = Number(process.argv[3] ?? cols);

const adapter = await findAdapter();
if (adapter === null) throw new Error("There is no GPU here");
using gpu = await Gpu.open(adapter);
gpu.isTimed = true;
console.log(`${gpu.adapter.name}, ${rows} x ${cols}`);

/** Runs twice, the first time to compile, and prints the second. */
async function time(
  name: string,
  operations: number,
  run: () => Promise<BatchTimes>,
): Promise<void> {
  await run();
  const start = performance.now();
  const { kernelMs } = await run();
  const wall = performance.now() - start;
  const kernels = kernelMs === null
    ? "the device has no timer"
    : `kernels ${kernelMs.toFixed(1)} ms, host share ${(100 * (1 - kernelMs / wall)).toFixed(1)} %`;
  const rate = `${(operations / (kernelMs ?? wall) / 1e6).toFixed(1)} GFLOP/s`;
  console.log(`${name.padEnd(22)}${wall.toFixed(1).padStart(10)} ms, ${kernels}, ${rate}`);
}

/** Seeded, and small enough for any storage. */
let state = 1;
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state / 2 ** 32 - 0.5) * 0.1;
}

/** Something to wait for. */
const word = new Uint32Array(1);

for (const storage of STORAGES) {
  await time(`product, ${storage}`, 2 * rows * cols * cols, () => {
    const batch = new Batch("product"), bytes = storageBytes(storage);
    const a = batch.zeros("A", bytes * rows * cols), b = batch.zeros("B", bytes * cols * cols);
    const c = batch.scratch("C", 4 * rows * cols);
    recordGemm(batch, gpuMatrix(c, { rows, cols }), {
      a: gpuMatrix(a, { rows, cols, storage }),
      b: gpuMatrix(b, { rows: cols, cols, storage }),
      mode: "set",
    });
    batch.output(c, word);
    return batch.run(gpu);
  });
}

const size = rows * cols, raw = new Uint8Array(new SharedArrayBuffer(2 * size));
// BF16 from 0.0078 to 2, of both signs.
for (let i = 0; i < size; i++) {
  raw[2 * i] = Math.trunc(256 * random());
  raw[2 * i + 1] = (random() > 0 ? 0x3c : 0xbc) + i % 4;
}
const rowGrid = { rows, cols, groupRows: 1, groupCols: cols };
for (const scaleSearch of [false, true]) {
  const convrotGroupSize = scaleSearch && cols % 256 === 0 ? 256 : null;
  // Some operations a value: what counts is the time.
  await time(scaleSearch ? "default mode" : "rounding", 10 * size, () =>
    quantizeRect(gpu, {
      ...{ raw, dtype: "BF16", grid: rowGrid, convrotGroupSize, scaleSearch },
      codes: new Int8Array(size),
      scales: new Float32Array(rows),
    }));
}

const length = 2 ** Math.floor(Math.log2(cols));
await time("Hadamard transform", rows * length * Math.log2(length), () => {
  const batch = new Batch("Hadamard");
  const x = batch.zeros("x", 4 * rows * length);
  recordHadamard(batch, gpuMatrix(x, { rows, cols: length }), "rows");
  batch.output(x, word);
  return batch.run(gpu);
});

const weights = Float32Array.from({ length: rows * cols }, random);
const codes = new Int8Array(rows * cols), errors = new Float32Array(rows * cols);
const scales = new Float32Array(rows).fill(0.0005);
const grid = { rows, cols, groupRows: 1, groupCols: cols };
for (const storage of STORAGES) {
  const source = {
    size: cols,
    blockSize: cols,
    order: null,
    column: (first: number, width: number) => {
      const panel = Float32Array.from({ length: (cols - first) * width }, () => random() / 10);
      return matrix(panel, cols - first, width);
    },
  };
  using factor = await GpuFactor.upload(gpu, source, storage);
  await time(
    `LDLQ, ${storage}`,
    rows * cols * cols,
    () => ldlqRows(factor, { weights, codes, errors, firstRow: 0, grid, scales }),
  );
}
