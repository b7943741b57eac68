import assert from "node:assert/strict";
import type { Grid } from "../../../src/backend/backend.ts";
import { findAdapter } from "../../../src/backend/webgpu/adapter.ts";
import { Gpu } from "../../../src/backend/webgpu/device.ts";
import { FACTOR_BLOCK, GpuFactor } from "../../../src/backend/webgpu/gpu_factor.ts";
import { ldlqRows } from "../../../src/backend/webgpu/ldlq_rows.ts";
import type { Storage } from "../../../src/backend/webgpu/storage.ts";
import { DeviceError } from "../../../src/core/errors.ts";
import type { Hessian } from "../../../src/linalg/hessian.ts";
import {
  type GptqFactor,
  gptqRows,
  prepareGptq,
  unitLowerColumns,
} from "../../../src/quant/gptq.ts";
import { groupedLevels, levelTables } from "../../../src/quant/level_grid.ts";
import { referenceKernels as kernelsOfCpu } from "../../../src/backend/reference/reference_kernels.ts";
import { wasmContext } from "../../linalg/contexts.ts";
import { outputError, positiveDefinite, weights } from "../../linalg/matrices.ts";
import { assertSameBits } from "../../kernels/subject.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const { kernels, memory } = wasmContext;

/** Codes, errors, and what of the errors shows in the output. */
interface Rounded {
  readonly codes: Int8Array;
  readonly errors: Float32Array;
}

interface Layer {
  readonly grid: Grid;
  readonly weights: Float32Array;
  readonly scales: Float32Array;
  /** The diagonal blocks of the Hessian, f64, one after the other. */
  readonly hessian: Float64Array;
  readonly blockSize: number;
}

function layerOf(
  { rows, cols, groupRows = 1, groupCols = cols, blockSize = cols }:
    & Pick<Grid, "rows" | "cols">
    & Partial<Grid>
    & { blockSize?: number },
): Layer {
  const blocks = Array.from({ length: cols / blockSize }, (_, k) => positiveDefinite(k, blockSize));
  const hessian = new Float64Array(cols * blockSize);
  blocks.forEach((block, k) => hessian.set(block, k * blockSize * blockSize));
  const groups = (rows / groupRows) * (cols / groupCols);
  const scales = Float32Array.from({ length: groups }, (_, i) => 0.0008 * (1 + i % 7 / 7));
  const grid = { rows, cols, groupRows, groupCols };
  return { grid, weights: weights(5, rows * cols), scales, hessian, blockSize };
}

/** Puts `layer` where the kernels of the CPU reach it, factors it and runs `body`. */
async function withFactor(
  layer: Layer,
  actOrder: boolean,
  body: (factor: GptqFactor, put: <T extends Float32Array | Int8Array>(x: T) => T) => Promise<void>,
): Promise<void> {
  const mark = memory.mark();
  try {
    const values = memory.f64(layer.hessian.length);
    values.set(layer.hessian);
    const { blockSize, grid } = layer;
    const hessian: Hessian = { size: grid.cols, blockSize, values, source: "hessian" };
    const factor = prepareGptq(wasmContext, hessian, { actOrder, damping: 0.01 });
    assert.equal(factor.report.fallback, null);
    const put = <T extends Float32Array | Int8Array>(x: T): T => {
      const copy = x instanceof Int8Array ? memory.i8(x.length) : memory.f32(x.length);
      copy.set(x);
      return copy as T;
    };
    await body(factor, put);
  } finally {
    memory.release(mark);
  }
}

function upload(gpu: Gpu, factor: GptqFactor, storage: Storage): Promise<GpuFactor> {
  const panel = memory.f32(factor.blockSize * FACTOR_BLOCK), diagonal = memory.f64(FACTOR_BLOCK);
  return GpuFactor.upload(gpu, {
    ...factor,
    column: (first, width) =>
      unitLowerColumns(kernels, factor, { first, width, into: { panel, diagonal } }),
  }, storage);
}

async function onGpu(
  gpu: Gpu,
  layer: Layer,
  factor: GptqFactor,
  { storage = "f32", sliceBytes }: { storage?: Storage; sliceBytes?: number } = {},
): Promise<Rounded> {
  using onDevice = await upload(gpu, factor, storage);
  const codes = new Int8Array(layer.weights.length).fill(55);
  const errors = new Float32Array(layer.weights.length).fill(NaN);
  const slices = sliceBytes === undefined ? {} : { sliceBytes };
  await ldlqRows(onDevice, { ...layer, codes, errors, firstRow: 0, ...slices });
  return { codes, errors };
}

function onCpu(
  layer: Layer,
  factor: GptqFactor,
  put: <T extends Float32Array | Int8Array>(x: T) => T,
): Rounded {
  const codes = put(new Int8Array(layer.weights.length)), errors = put(layer.weights);
  const scales = put(layer.scales);
  gptqRows(wasmContext, factor, { weights: errors, codes, firstRow: 0, grid: layer.grid, scales });
  return { codes, errors };
}

function different(a: Int8Array, b: Int8Array): number {
  return a.reduce((count, code, i) => count + (code === b[i] ? 0 : 1), 0);
}

/** The squared error of the output, all blocks of channels together. */
function lossOf({ errors }: Rounded, { grid, hessian, blockSize }: Layer): number {
  let loss = 0;
  for (let first = 0; first < grid.cols; first += blockSize) {
    const part = new Float32Array(grid.rows * blockSize);
    for (let r = 0; r < grid.rows; r++) {
      const at = r * grid.cols + first;
      part.set(errors.subarray(at, at + blockSize), r * blockSize);
    }
    const h = hessian.subarray(first * blockSize, (first + blockSize) * blockSize);
    loss += outputError(part, h, blockSize);
  }
  return loss;
}

const LAYERS = {
  "a scale per row": layerOf({ rows: 256, cols: 512 }),
  "a scale per 2-D block": layerOf({ rows: 256, cols: 512, groupRows: 64, groupCols: 128 }),
  "scales of parts of rows": layerOf({ rows: 256, cols: 512, groupCols: 32 }),
  "several block columns, odd": layerOf({ rows: 40, cols: FACTOR_BLOCK + 137 }),
  "blocks of channels": layerOf({ rows: 64, cols: 1024, blockSize: 256 }),
};

for (const [name, layer] of Object.entries(LAYERS)) {
  for (const actOrder of [false, true]) {
    const title = `${name}${actOrder ? ", reordered" : ""}`;
    testGpuOnly(
      `ldlqRows() gives the codes of the CPU but for 1 of 1,000: ${title}`,
      async (gpu) => {
        await withFactor(layer, actOrder, async (factor, put) => {
          const want = onCpu(layer, factor, put), got = await onGpu(gpu, layer, factor);
          const count = different(got.codes, want.codes);
          assert(count < 1e-3 * want.codes.length, `${count} of ${want.codes.length} codes differ`);
          assertErrorsFit(got, layer);
          const ratio = lossOf(got, layer) / lossOf(want, layer);
          assert(Math.abs(ratio - 1) < 0.02, `output error ${ratio} of that of the CPU`);
        });
      },
    );
  }
}

/** Errors are what the codes leave. */
function assertErrorsFit({ codes, errors }: Rounded, { weights, scales, grid }: Layer): void {
  const across = grid.cols / grid.groupCols;
  errors.forEach((error, i) => {
    const row = Math.floor(i / grid.cols), col = i % grid.cols;
    const group = Math.floor(row / grid.groupRows) * across + Math.floor(col / grid.groupCols);
    const want = Math.fround(weights[i]! - Math.fround(codes[i]! * scales[group]!));
    assert.equal(error, want, `error at ${i}`);
  });
}

/** Part of the codes that may differ, by what is lost of feedback: 11 bits of it are kept. */
const DIFFERENT = 0.03;

testGpuOnly(
  `ldlqRows() with F16 stays within 2% of the output error of f32`,
  async (gpu) => {
    for (const name of ["a scale per row", "several block columns, odd"] as const) {
      const layer = LAYERS[name];
      await withFactor(layer, true, async (factor, put) => {
        const want = onCpu(layer, factor, put),
          got = await onGpu(gpu, layer, factor, { storage: "f16" });
        assertErrorsFit(got, layer);
        const ratio = lossOf(got, layer) / lossOf(want, layer);
        assert(Math.abs(ratio - 1) < 0.02, `${name}: output error ${ratio} of that of the CPU`);
        const count = different(got.codes, want.codes);
        const most = DIFFERENT * want.codes.length;
        assert(count > 0 && count < most, `${name}: ${count} codes differ`);
      });
    }
  },
);

testGpuOnly("ldlqRows() gives the same bits in slices of any size", async (gpu) => {
  const layer = layerOf({ rows: 48, cols: 160, groupRows: 8, groupCols: 32 });
  await withFactor(layer, true, async (factor) => {
    const whole = await onGpu(gpu, layer, factor);
    for (const sliceBytes of [1, 50_000, 200_000]) {
      const slices = await onGpu(gpu, layer, factor, { sliceBytes });
      assertSameBits(slices.codes, whole.codes, `codes in slices of ${sliceBytes} bytes`);
      assertSameBits(slices.errors, whole.errors, `errors in slices of ${sliceBytes} bytes`);
    }
  });
});

testGpuOnly("ldlqRows() takes rows from the middle of a layer", async (gpu) => {
  const layer = layerOf({ rows: 24, cols: 64, groupRows: 8, groupCols: 16 });
  await withFactor(layer, false, async (factor) => {
    const whole = await onGpu(gpu, layer, factor);
    using onDevice = await upload(gpu, factor, "f32");
    const part = layer.weights.slice(5 * 64, 19 * 64), codes = new Int8Array(part.length);
    await ldlqRows(onDevice, { ...layer, weights: part, codes, errors: part, firstRow: 5 });
    assertSameBits(codes, whole.codes.slice(5 * 64, 19 * 64), "codes");
    assertSameBits(part, whole.errors.slice(5 * 64, 19 * 64), "errors");
  });
});

/** Rows on few levels; their columns go in whole groups. */
interface OnLevels extends Rounded {
  readonly choices: Uint8Array;
}

const SET_COLS = 16;

function takeBytes(length: number): Uint8Array {
  const { buffer, byteOffset } = memory.i8(length);
  return new Uint8Array(buffer, byteOffset, length);
}

/** Codes of `layer` on the levels of a format, on both devices. */
async function onLevels(
  gpu: Gpu,
  layer: Layer,
  { bits, searches, storage, sliceBytes }: {
    readonly bits: 4 | 6;
    readonly searches: boolean;
    readonly storage: Storage;
    readonly sliceBytes?: number;
  },
): Promise<{ readonly cpu: OnLevels; readonly gpu: OnLevels }> {
  const { grid, blockSize } = layer, count = layer.weights.length;
  const mark = memory.mark();
  try {
    const values = memory.f64(layer.hessian.length), scales = memory.f32(grid.rows);
    values.set(layer.hessian);
    kernelsOfCpu.absmax(scales, layer.weights, grid);
    scales.set(scales.map((absmax) => absmax / 127));
    const hessian: Hessian = { size: grid.cols, blockSize, values, source: "hessian" };
    const order = { actOrder: true, unitCols: SET_COLS, damping: 0.01 };
    const factor = prepareGptq(wasmContext, hessian, order);
    const scheme = groupedLevels({ bits, groupCols: SET_COLS });
    const tables = levelTables(scheme, takeBytes);
    const fixed = () => {
      const choices = takeBytes(count / SET_COLS);
      choices.forEach((_, at) => choices[at] = 60 + at % 9);
      return choices;
    };
    const own = { ...tables, choices: fixed() };
    const cpu = { codes: memory.i8(count), errors: memory.f32(count), choices: own.choices };
    cpu.errors.set(layer.weights);
    const search = !searches ? null : { ...tables, spare: memory.f32(8 * SET_COLS) };
    const rows = { ...layer, weights: cpu.errors, codes: cpu.codes, scales, firstRow: 0 };
    gptqRows(wasmContext, factor, { ...rows, levels: { ...own, search } });
    using there = await upload(gpu, factor, storage);
    const codes = new Int8Array(count), errors = new Float32Array(count), choices = fixed();
    const levels = { ...tables, choices, search: searches ? tables : null };
    const slices = sliceBytes === undefined ? {} : { sliceBytes };
    await ldlqRows(there, { ...layer, scales, codes, errors, firstRow: 0, levels, ...slices });
    const copies = { codes: cpu.codes.slice(), errors: cpu.errors.slice() };
    return {
      cpu: { ...copies, choices: cpu.choices.slice() },
      gpu: { codes, errors, choices: choices.slice() },
    };
  } finally {
    memory.release(mark);
  }
}

const LEVEL_LAYERS = {
  "several block columns": layerOf({ rows: 70, cols: FACTOR_BLOCK + 208 }),
  "blocks of channels": layerOf({ rows: 40, cols: 512, blockSize: 64 }),
};

for (const [name, layer] of Object.entries(LEVEL_LAYERS)) {
  for (const bits of [4, 6] as const) {
    for (const searches of [true, false]) {
      const title = `${name}, ${bits} bits, sets ${searches ? "chosen on the way" : "given"}`;
      testGpuOnly(
        `ldlqRows() gives levels and sets of the CPU but for a few: ${title}`,
        async (gpu) => {
          const found = await onLevels(gpu, layer, { bits, searches, storage: "f32" });
          const { length } = found.cpu.codes;
          const codes = different(found.gpu.codes, found.cpu.codes);
          assert(codes < 3e-3 * length, `${codes} of ${length} codes differ`);
          const sets = found.gpu.choices.filter((set, at) => set !== found.cpu.choices[at]).length;
          assert(
            searches ? sets < 3e-3 * found.cpu.choices.length : sets === 0,
            `${sets} sets differ`,
          );
          if (searches) assert(new Set(found.gpu.choices).size > 9, "sets were not chosen");
          const ratio = lossOf(found.gpu, layer) / lossOf(found.cpu, layer);
          assert(Math.abs(ratio - 1) < 0.02, `output error ${ratio} of that of the CPU`);
        },
      );
    }
  }
}

testGpuOnly(
  "ldlqRows() on levels gives the same bits in slices, and with F16 nearly the same error",
  async (gpu) => {
    const layer = LEVEL_LAYERS["several block columns"];
    const asked = { bits: 4, searches: true, storage: "f32" } as const;
    const whole = await onLevels(gpu, layer, asked);
    const slices = await onLevels(gpu, layer, { ...asked, sliceBytes: 300_000 });
    assertSameBits(slices.gpu.codes, whole.gpu.codes, "codes");
    assertSameBits(slices.gpu.choices, whole.gpu.choices, "sets");
    const half = await onLevels(gpu, layer, { ...asked, storage: "f16" });
    const ratio = lossOf(half.gpu, layer) / lossOf(whole.cpu, layer);
    assert(Math.abs(ratio - 1) < 0.02, `output error ${ratio} of that of the CPU`);
  },
);

testGpuOnly("ldlqRows() rejects groups of levels that its blocks would part", async (gpu) => {
  const layer = layerOf({ rows: 2, cols: 64, blockSize: 16 });
  await withFactor(layer, true, async (factor) => {
    using onDevice = await upload(gpu, factor, "f32");
    const rows = { ...layer, codes: new Int8Array(128), errors: null, firstRow: 0 };
    const tables = { nearest: new Int8Array(512), choices: new Uint8Array(4) };
    const search = { first: new Uint8Array(256) };
    const levels = { ...tables, groupCols: 32, search };
    await assert.rejects(ldlqRows(onDevice, { ...rows, levels }), /groups of 32 columns/);
    const few = { ...levels, choices: new Uint8Array(3) };
    await assert.rejects(ldlqRows(onDevice, { ...rows, levels: few }), /3 sets of levels, needs 4/);
    // Columns of a group that lie apart are no matter if its set is given.
    await ldlqRows(onDevice, { ...rows, levels: { ...levels, search: null } });
  });
});

testGpuOnly("ldlqRows() rejects what does not fit together", async (gpu) => {
  const layer = layerOf({ rows: 2, cols: 8 });
  await withFactor(layer, false, async (factor) => {
    using onDevice = await upload(gpu, factor, "f32");
    const good = { ...layer, codes: new Int8Array(16), errors: null, firstRow: 0 };
    await assert.rejects(ldlqRows(onDevice, { ...good, codes: new Int8Array(15) }), RangeError);
    await assert.rejects(
      ldlqRows(onDevice, { ...good, weights: new Float32Array(12) }),
      RangeError,
    );
    await assert.rejects(ldlqRows(onDevice, { ...good, firstRow: 1 }), /2 scales, needs 3/);
    const grid = { ...layer.grid, cols: 4, groupCols: 4 };
    await assert.rejects(ldlqRows(onDevice, { ...good, grid }), RangeError);
  });
  const source = { size: 12, blockSize: 6, order: null, column: () => assert.fail() };
  await assert.rejects(GpuFactor.upload(gpu, source), /blocks of 6 in 12 columns/);
});

testGpuOnly("GpuFactor.upload() reports a factor that does not fit", async (gpu) => {
  const data = new Float32Array(1);
  const source = { size: 1, blockSize: 1, order: null };
  const huge = { data, rows: 1, cols: 2 ** 40, rowStride: 2 ** 40, colStride: 1 };
  await assert.rejects(
    GpuFactor.upload(gpu, { ...source, column: () => huge }, "f16"),
    DeviceError,
  );
  assert.equal(gpu.failure, null);
});

testGpuOnly("GpuFactor and ldlqRows() report a device that was lost", async () => {
  const layer = layerOf({ rows: 4, cols: 16 });
  await withFactor(layer, false, async (factor) => {
    const gpu = await Gpu.open((await findAdapter())!);
    using onDevice = await upload(gpu, factor, "f32");
    gpu.device.destroy();
    const codes = new Int8Array(64), given = layer.weights.slice();
    const rows = { ...layer, weights: given, codes, errors: given, firstRow: 0 };
    await assert.rejects(ldlqRows(onDevice, rows), DeviceError);
    assertSameBits(given, layer.weights, "weights");
    await assert.rejects(upload(gpu, factor, "f32"), DeviceError);
    await gpu.device.lost;
    await assert.rejects(upload(gpu, factor, "f16"), gpu.failure!);
  });
});
