import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { convertToInt8 } from "../../src/convert/convert_to_int8.ts";
import type { DeviceChoice } from "../../src/run/workers/choose_gpu.ts";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { type GpuPlacement, placementWithin, placeOnGpu } from "../../src/run/gpu_tasks.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { type Fault, startFaultyGpu } from "../support/faulty_gpu.ts";
import { testGpuOnly } from "../support/gpu.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

function writeLayers(path: string, layers: number): void {
  const next = randomFor(1, path.slice(-3));
  const tensors = Array.from({ length: layers }, (_, k) => {
    const rows = 48 + 16 * (k % 3), cols = k % 4 === 3 ? 77 : 256;
    const values = new Float32Array(rows * cols);
    fillNormal(values, next);
    return k % 2 === 0
      ? tensorOf(
        `blocks.${k}.a.weight`,
        "BF16",
        [rows, cols],
        Uint16Array.from(values, f32ToBf16),
      )
      : tensorOf(`blocks.${k}.a.weight`, "F32", [rows, cols], values);
  });
  const bias = tensorOf("blocks.0.a.bias", "F32", [3], Float32Array.of(1, 2, 3));
  writeModel(path, [...tensors, bias]);
}

/** Correlated inputs for all layers of 256 columns. */
function writeActivations(path: string): void {
  const next = randomFor(2, "inputs");
  const rows = 128, cols = 256;
  const values = new Float32Array(rows * cols), common = new Float32Array(rows);
  fillNormal(values, next);
  fillNormal(common, next);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < cols; k++) {
      values[r * cols + k] = values[r * cols + k]! * (1 + (k % 7)) + 3 * common[r]! * (k % 3);
    }
  }
  const layers = Array.from({ length: 8 }, (_, k) => `blocks.${k}.a`).filter((_, k) => k % 4 !== 3);
  writeModel(
    path,
    layers.map((layer) => tensorOf(`${layer}.activations`, "F32", [rows, cols], values)),
  );
}

/** All codes of the output. */
function codesOf(folder: string): number[] {
  const tensors = readModel(join(folder, "out.safetensors"));
  return [...tensors].flatMap(([name, { dtype, data }]) =>
    dtype === "I8" && !name.endsWith("comfy_quant") ? [...data] : []
  );
}

interface Run {
  readonly result: ConvertResult;
  readonly bytes: Uint8Array;
  readonly failures: readonly string[];
}

async function convert(
  folder: string,
  options: Partial<ConvertOptions>,
  { gpu, onSecondLayer }: { gpu: GpuService | null; onSecondLayer?: () => void },
): Promise<Run> {
  const output = join(folder, "out.safetensors");
  const failures: string[] = [];
  let layers = 0;
  const result = await convertModel({
    input: join(folder, "in.safetensors"),
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER,
    workers: 2,
    force: true,
    measure: true,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: (message) => failures.push(message),
    onLayer: () => {
      layers++;
      if (layers === 2) onSecondLayer?.();
    },
  });
  return { result, bytes: bytesOfFile(output), failures };
}

const MODES: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "the default mode": {},
  "plain rows": { method: "simple", scaling: "row" },
  "blocks": { scaling: "block", blockSize: 16 },
  "one scale": { scaling: "tensor" },
  "four bits": { output: "w4a8" },
  "four bits in groups of 64": { output: "w4a8", groupSize: 64 },
  "six bits": { output: "w6a8" },
  "fifteen levels": { output: "w4a4" },
  "fifteen levels without a search": { output: "w4a4", method: "simple", scaleSearch: "off" },
  "fp8": { output: "fp8" },
  "mxfp8": { output: "mxfp8" },
  "nvfp4": { output: "nvfp4" },
  "nvfp4 without a search": { output: "nvfp4", scaleSearch: "off" },
};

for (const [name, options] of Object.entries(MODES)) {
  testGpuOnly(`convertModel() gives the bytes of the CPU in ${name}`, async () => {
    using folder = temporaryFolder();
    writeLayers(join(folder.path, "in.safetensors"), 8);
    using gpu = await GpuService.start(WORKER);
    const onCpu = await convert(folder.path, options, { gpu: null });
    const onGpu = await convert(folder.path, options, { gpu });
    assert.deepEqual(onGpu.bytes, onCpu.bytes);
    assert.equal(onCpu.result.gpu, null);
    assert.equal(onGpu.result.gpu!.failure, null);
    if (options.scaling !== "tensor") assert.equal(onGpu.result.gpu!.operations, 8);
    onGpu.result.layers.forEach(({ errors }, k) => {
      const want = onCpu.result.layers[k]!.errors;
      assert(Math.abs(errors.sqnrDb! - want.sqnrDb!) < 1e-3, `${errors.sqnrDb} ${want.sqnrDb}`);
      assert.equal(errors.maxAbsError, want.maxAbsError);
    });
  });
}

const FAULTS: readonly (readonly [Fault, RegExp])[] = [
  ["lost", /lost/],
  ["memory", /too large|out of memory|exceed|size|limit/i],
  ["shader", /shader|pars|expected/i],
];

for (const [fault, message] of FAULTS) {
  testGpuOnly(`convertModel() is complete and right if the GPU fails: ${fault}`, async () => {
    using folder = temporaryFolder();
    writeLayers(join(folder.path, "in.safetensors"), 40);
    using faulty = await startFaultyGpu();
    const onCpu = await convert(folder.path, {}, { gpu: null });
    const broken = await convert(folder.path, {}, {
      gpu: faulty.gpu,
      onSecondLayer: () => faulty.provoke(fault),
    });
    assert.deepEqual(broken.bytes, onCpu.bytes);
    assert.equal(broken.failures.length, 1, "reported once");
    assert.match(broken.failures[0]!, message);
    assert.equal(broken.result.gpu!.failure, broken.failures[0]);
    const { operations } = broken.result.gpu!;
    assert(operations >= 2 && operations < 40, `${operations} operations before it failed`);
  });
}

/** Everything goes to the GPU, however small. */
function everything(adapter: GpuService["adapter"]): GpuPlacement {
  const placement = placementWithin(adapter.limits);
  return {
    ...placement,
    linalg: { ...placement.linalg, leastProducts: 1, leastHadamard: 1 },
  };
}

const COMPENSATED: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "rotated rows": {},
  "rows with act order": { scaling: "row", method: "gptq" },
  "blocks": { scaling: "block", blockSize: 16, method: "gptq" },
  "one scale": { scaling: "tensor", method: "gptq" },
  "quip by row": { scaling: "row", method: "quip" },
  "quip, stored transformed": {
    method: "quip",
    quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true },
  },
  "learned rounding": { scaling: "row", method: "original" },
  "four bits": { output: "w4a8" },
  "four bits in groups of 64": { output: "w4a8", groupSize: 64 },
  "six bits": { output: "w6a8" },
  "integers of four bits": { output: "w4a4" },
};

for (const [name, options] of Object.entries(COMPENSATED)) {
  testGpuOnly(`convertModel() compensates errors as on the CPU: ${name}`, async () => {
    using folder = temporaryFolder();
    writeLayers(join(folder.path, "in.safetensors"), 2);
    const calibrationPath = join(folder.path, "calibration.safetensors");
    writeActivations(calibrationPath);
    // In f32 on both: integers, which only the CPU feeds errors back in, move some codes in a hundred.
    const asked = { ...options, calibrationPath, turbo: false };
    using gpu = await GpuService.start(WORKER, everything);
    const onCpu = await convert(folder.path, asked, { gpu: null });
    const codesOnCpu = codesOf(folder.path);
    const onGpu = await convert(folder.path, asked, { gpu });
    const codesOnGpu = codesOf(folder.path);
    assert.equal(onGpu.result.gpu!.failure, null);
    assert(onGpu.result.gpu!.operations >= 10, `${onGpu.result.gpu!.operations} operations`);
    const different = codesOnCpu.filter((code, k) => code !== codesOnGpu[k]).length;
    // Two codes are in a byte of four bits, and with another set all of a group are other ones.
    const choosesSets = options.output === "w4a8" || options.output === "w6a8";
    const share = choosesSets ? 2e-2 : 1e-2;
    const most = share * codesOnCpu.length;
    assert(different <= most, `${different} of ${codesOnCpu.length} differ`);
    onGpu.result.layers.forEach(({ errors, output }, k) => {
      const want = onCpu.result.layers[k]!;
      const sqnr = Math.abs(errors.sqnrDb! - want.errors.sqnrDb!);
      assert(sqnr < 0.05, `${sqnr} dB`);
      const ratio = output!.w8a16! / want.output!.w8a16!;
      assert(ratio > 0.98 && ratio < 1.02, `output error ${ratio} x that on the CPU`);
    });
  });
}

testGpuOnly("convertModel() rounds on the CPU what a lost GPU had the factor of", async () => {
  using folder = temporaryFolder();
  writeLayers(join(folder.path, "in.safetensors"), 8);
  const calibrationPath = join(folder.path, "calibration.safetensors");
  writeActivations(calibrationPath);
  using faulty = await startFaultyGpu(everything);
  const broken = await convert(folder.path, { calibrationPath }, {
    gpu: faulty.gpu,
    onSecondLayer: () => faulty.provoke("lost"),
  });
  const onCpu = await convert(folder.path, { calibrationPath }, { gpu: null });
  assert.equal(broken.failures.length, 1);
  assert.equal(broken.result.layers.length, onCpu.result.layers.length);
  broken.result.layers.forEach(({ errors }, k) => {
    assert(Math.abs(errors.sqnrDb! - onCpu.result.layers[k]!.errors.sqnrDb!) < 0.05);
  });
});

for (const output of ["int8", "fp8", "mxfp8", "nvfp4", "w4a4"] as const) {
  testGpuOnly(
    `convertModel() on a GPU names NaN as the CPU does, and leaves no output: ${output}`,
    async () => {
      using folder = temporaryFolder();
      const values = new Float32Array(300 * 256).fill(0.5);
      values[257] = NaN;
      values[9000] = Infinity;
      const input = join(folder.path, "in.safetensors");
      writeModel(input, [tensorOf("a.weight", "F32", [300, 256], values)]);
      using gpu = await GpuService.start(WORKER);
      await assert.rejects(
        convert(folder.path, { output }, { gpu }),
        /"a.weight".*2 NaN or infinite values, the first at index 257/,
      );
      assert(!existsSync(join(folder.path, "out.safetensors")));
    },
  );
}

/** Elements of a chunk: 3 tiles of 128 rows of 96 columns, less than one of 320 columns. */
const FEW_ELEMENTS = 40_000;

for (const output of ["fp8", "mxfp8", "nvfp4", "w4a4"] as const) {
  testGpuOnly(
    `convertModel() gives the bytes of the CPU in several chunks, with a LoRA: ${output}`,
    async () => {
      using folder = temporaryFolder();
      const next = randomFor(3, "chunks"),
        normal = (count: number) => {
          const values = new Float32Array(count);
          fillNormal(values, next);
          return values;
        };
      // Some rows are far smaller than the others: their scales are among the smallest numbers.
      const of = (rows: number, cols: number) =>
        normal(rows * cols).map((value, i) => value * 2 ** -(Math.floor(i / cols) % 31));
      writeModel(join(folder.path, "in.safetensors"), [
        tensorOf("blocks.0.a.weight", "BF16", [400, 96], Uint16Array.from(of(400, 96), f32ToBf16)),
        tensorOf("blocks.1.a.weight", "F32", [200, 320], of(200, 320)),
      ]);
      const lora = join(folder.path, "lora.safetensors");
      writeModel(lora, [
        tensorOf("blocks.0.a.lora_A.weight", "F32", [5, 96], normal(5 * 96)),
        tensorOf("blocks.0.a.lora_B.weight", "F32", [400, 5], normal(400 * 5)),
      ]);
      const merge = { paths: [lora], scale: 1, dampen: false, strict: true };
      using gpu = await GpuService.start(
        WORKER,
        () =>
          placementWithin({ maxBufferSize: 1e9, maxStorageBufferBindingSize: 4 * FEW_ELEMENTS }),
      );
      const onCpu = await convert(folder.path, { output, merge }, { gpu: null });
      const onGpu = await convert(folder.path, { output, merge }, { gpu });
      assert.deepEqual(onGpu.bytes, onCpu.bytes);
      const largest = ({ result }: Run) => result.layers.map(({ errors }) => errors.maxAbsError);
      assert.deepEqual(largest(onGpu), largest(onCpu));
      assert.equal(onGpu.result.gpu!.failure, null);
      // Floats: 384 rows and 16; not 128 rows that are too large, but the 72 below them. Else: 400, 125 and 75 rows.
      assert.equal(onGpu.result.gpu!.operations, 3);
    },
  );
}

Deno.test("placeOnGpu() marks what is rounded to nearest, in chunks that fit a buffer", () => {
  const source = {
    name: "a.weight",
    file: 0,
    offsetBytes: 0,
    dtype: "BF16" as const,
    rows: 4096,
    cols: 4096,
    scale: null,
    convrotGroupSize: null,
  };
  const task = {
    kind: "quantize" as const,
    name: "a.weight",
    source,
    groupRows: 1,
    groupCols: 4096,
    convrotGroupSize: null,
    scaleSearch: true,
    compensation: null,
    codesOffsetBytes: 0,
    scalesOffsetBytes: 0,
  };
  const copy = {
    kind: "copy" as const,
    name: "b",
    file: 0,
    offsetBytes: 0,
    byteLength: 1,
    outOffsetBytes: 0,
  };
  const limits = { maxStorageBufferBindingSize: 4e6, maxBufferSize: 1e9 };
  const [first, second] = placeOnGpu([task, copy], placementWithin(limits));
  assert.deepEqual(first, {
    ...task,
    onGpu: { chunkElements: 1e6, maxElements: 1e6, storage: "f32", isFirst: true },
  });
  assert.deepEqual(second, copy);
});

testGpuOnly(
  "convertToInt8() computes on the device that is asked for, and never by itself on a software one",
  async (device) => {
    using folder = temporaryFolder();
    const input = join(folder.path, "in.safetensors");
    writeLayers(input, 2);
    const run = async (choice?: DeviceChoice) => {
      const outputPath = join(folder.path, "out.safetensors");
      const asked = choice === undefined ? {} : { device: choice };
      return (await convertToInt8({
        input,
        outputPath,
        force: true,
        workers: 1,
        preset: "none",
        ...asked,
      })).gpu;
    };
    assert.equal(await run(), null);
    const { name, isSoftware } = device.adapter;
    assert.equal((await run("gpu"))!.adapter, name);
    assert.equal((await run("auto"))?.adapter ?? null, isSoftware ? null : name);
  },
);
