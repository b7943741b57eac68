import assert from "node:assert/strict";
import { join } from "node:path";
import { compensationBy } from "../../src/calibration/compensation.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { rowSpaceBlockCols } from "../../src/run/chunks/row_space_choice.ts";
import type { QuantizeTask } from "../../src/run/tasks.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { normal, uniform } from "../kernels/values.ts";
import { weights } from "../linalg/matrices.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);
const ROWS = 70, COLS = 1024, GROUP = 256;

/** Inputs `[count, COLS]` along a few directions, with channels of very different energy. */
function inputs(count: number, seed: number): Float32Array {
  const spread = uniform(77), mix = normal(78), own = normal(seed);
  const energy = Float64Array.from({ length: COLS }, () => spread() < 0.05 ? 6 : 0.5 + spread());
  const directions = Float64Array.from({ length: 8 * COLS }, mix);
  const x = new Float32Array(count * COLS);
  for (let t = 0; t < count; t++) {
    const along = Array.from({ length: 8 }, own);
    for (let k = 0; k < COLS; k++) {
      let sum = own();
      for (let d = 0; d < 8; d++) sum += 0.5 * along[d]! * directions[d * COLS + k]!;
      x[t * COLS + k] = sum * energy[k]!;
    }
  }
  return x;
}

/** Relative error of the outputs for `x`, read from what a dequantized file holds. */
function outputError(w: Float32Array, decoded: Float32Array, x: Float32Array): number {
  let error = 0, signal = 0;
  for (let t = 0; t < x.length / COLS; t++) {
    for (let r = 0; r < ROWS; r++) {
      let y = 0, e = 0;
      for (let k = 0; k < COLS; k++) {
        y += x[t * COLS + k]! * w[r * COLS + k]!;
        e += x[t * COLS + k]! * (w[r * COLS + k]! - decoded[r * COLS + k]!);
      }
      error += e * e;
      signal += y * y;
    }
  }
  return Math.sqrt(error / signal);
}

/** Converts a layer with `count` inputs; returns the path. */
async function convert(
  folder: string,
  name: string,
  { count, workers = 2, scale = 1, ...options }: Partial<ConvertOptions> & {
    count: number;
    workers?: number;
    scale?: number;
  },
): Promise<string> {
  const input = join(folder, "in.safetensors"), output = join(folder, `${name}.safetensors`);
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [ROWS, COLS], LAYER)]);
  const calibrationPath = join(folder, `${name}.calibration.safetensors`);
  const x = inputs(Math.max(1, count), 3).map((value) => value * scale);
  if (count > 0) {
    writeModel(calibrationPath, [tensorOf("blocks.0.lin.activations", "F32", [count, COLS], x)]);
  }
  await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      calibrationPath: count > 0 ? calibrationPath : null,
      ...options,
    },
    workerUrl: WORKER,
    workers,
  });
  return output;
}

/** The codes times their scales, rotated back. */
function decode(path: string): Float32Array {
  const model = openModel(path), bytes = bytesOfFile(path);
  const of = (name: string) => model.tensors.find((tensor) => tensor.name.endsWith(name))!;
  const codes = of("lin.weight"), scales = of("weight_scale");
  const q = new Int8Array(bytes.buffer, bytes.byteOffset + codes.offsetBytes, ROWS * COLS);
  const at = bytes.byteOffset + scales.offsetBytes;
  const s = new Float32Array(bytes.buffer.slice(at, at + 4 * ROWS));
  const values = Float32Array.from(q, (code, i) => code * s[Math.floor(i / COLS)]!);
  referenceKernels.rotate(values, GROUP);
  return values;
}

const LAYER = weights(41, ROWS * COLS);

Deno.test("convertModel() in the space of the rows lowers the held-out output error as the dense way does", async () => {
  using folder = temporaryFolder();
  const held = inputs(32, 9);
  const plain = outputError(LAYER, decode(await convert(folder.path, "plain", { count: 0 })), held);
  const few = outputError(LAYER, decode(await convert(folder.path, "few", { count: 96 })), held);
  assert.ok(few < 0.9 * plain, `${few} against ${plain}`);
});

Deno.test("convertModel() in the space of the rows gives the same bytes for any number of workers", async () => {
  using folder = temporaryFolder();
  const one = await convert(folder.path, "one", { count: 40, workers: 1 });
  for (const workers of [2, 3]) {
    const more = await convert(folder.path, `w${workers}`, { count: 40, workers });
    assert.deepEqual(bytesOfFile(more), bytesOfFile(one));
  }
});

Deno.test("convertModel() in the space of the rows does not depend on the unit of the inputs", async () => {
  using folder = temporaryFolder();
  const one = await convert(folder.path, "one", { count: 40 });
  for (const scale of [2 ** -60, 2 ** 60]) {
    const other = await convert(folder.path, `s${scale}`, { count: 40, scale });
    assert.deepEqual(bytesOfFile(other), bytesOfFile(one));
  }
});

Deno.test("convertModel() in the space of the rows rounds to nearest if all inputs are zero", async () => {
  using folder = temporaryFolder();
  const plain = await convert(folder.path, "plain", { count: 0 });
  const zero = await convert(folder.path, "zero", { count: 40, scale: 0 });
  assert.deepEqual(bytesOfFile(zero), bytesOfFile(plain));
});

/** A task of the given shape; only what the choice looks at. */
function task(rows: number, cols: number, inputs: number, more: Partial<QuantizeTask> = {}) {
  const statistic = {
    statistic: "activations",
    rows: inputs,
    cols,
    data: { kind: "inline", values: new Float32Array(), path: "" },
  } as const;
  return {
    source: { rows, cols },
    convrotGroupSize: 256,
    compensation: compensationBy(statistic, DEFAULT_CONVERT_OPTIONS),
    ...more,
  } as unknown as QuantizeTask;
}

Deno.test("rowSpaceBlockCols() chooses the space of the rows if that costs less", () => {
  assert.equal(rowSpaceBlockCols(task(3072, 12288, 512)), 256);
  assert.equal(rowSpaceBlockCols(task(ROWS, COLS, 40)), 256);
  assert.equal(rowSpaceBlockCols(task(ROWS, COLS, 96)), 256);
  assert.equal(rowSpaceBlockCols(task(384, 1536, 1024)), null);
  assert.equal(rowSpaceBlockCols(task(4096, 4096, 4096)), null);
});

Deno.test("rowSpaceBlockCols() leaves what needs its Hessian to the dense way", () => {
  const { compensation } = task(64, 12288, 64);
  const others: Partial<QuantizeTask>[] = [
    { convrotGroupSize: null },
    { convrotGroupSize: 1024 },
    { compensation: null },
    { compensation: { ...compensation!, statistic: "hessian" } },
    { compensation: { ...compensation!, statistic: "channels" } },
    { compensation: { ...compensation!, guarded: true } },
    { compensation: { ...compensation!, pairs: 0.5 } },
    { onGpu: { chunkElements: 1, maxElements: 1, storage: "f32" } },
  ];
  for (const more of others) {
    assert.equal(rowSpaceBlockCols(task(64, 12288, 64, more)), null, JSON.stringify(more));
  }
});
