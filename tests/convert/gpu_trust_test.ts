import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { DEFAULT_LEARNED_OPTIONS } from "../../src/quant/learned/options.ts";
import { type GpuPlacement, placementWithin } from "../../src/run/gpu_tasks.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import {
  ALL_SHADERS,
  beyond,
  halfOfIt,
  permuted,
  shaderNamed,
  workerWith,
} from "../support/broken_shaders.ts";
import { WORKER_URL } from "../support/encode.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

/** A conversion in which shaders are broken. */
interface Scene {
  readonly rows: number;
  readonly cols: number;
  readonly options: Partial<ConvertOptions>;
  /** Whether there is calibration data. */
  readonly hasData: boolean;
  readonly measures: boolean;
  readonly half?: "f16";
  /** Rank of a LoRA that is merged. Absent: none is. */
  readonly rank?: number;
}

const PLAIN: Scene = { rows: 512, cols: 1024, options: {}, hasData: false, measures: false };
const BLOCKS: Scene = { ...PLAIN, options: { scaling: "block", blockSize: 16 } };
const LONG: Scene = { ...PLAIN, rows: 64, cols: 4096, options: { convrot: 4096 } };
const LORA: Scene = { ...PLAIN, rank: 20 };
const FOUR: Scene = { ...PLAIN, options: { output: "w4a8" } };
const SIX: Scene = { ...PLAIN, options: { output: "w6a8" } };
const FIFTEEN: Scene = { ...PLAIN, options: { output: "w4a4" } };
const FP8: Scene = { ...PLAIN, options: { output: "fp8" } };
const MXFP8: Scene = { ...PLAIN, options: { output: "mxfp8" } };
const NVFP4: Scene = { ...PLAIN, options: { output: "nvfp4" } };
const GPTQ: Scene = {
  rows: 1024,
  cols: 1024,
  options: { scaling: "row", method: "gptq" },
  hasData: true,
  measures: false,
};
const GPTQ_FOUR: Scene = { ...GPTQ, options: { output: "w4a8" } };
const QUIP: Scene = {
  ...PLAIN,
  options: {
    method: "quip",
    quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true },
  },
};
const LEARNED: Scene = {
  ...GPTQ,
  rows: 200,
  options: {
    scaling: "row",
    method: "original",
    learned: { ...DEFAULT_LEARNED_OPTIONS, iterations: 4 },
  },
};
const MEASURED: Scene = {
  ...GPTQ,
  rows: 4096,
  cols: 64,
  // Outputs for all inputs: for the held-out ones alone the problem would be small.
  options: { scaling: "block", blockSize: 16, method: "simple", calibrationHoldout: 0 },
  measures: true,
};

const INPUTS = 96;

function write(folder: string, { rows, cols, hasData, rank }: Scene): void {
  const values = new Float32Array(rows * cols), inputs = new Float32Array(INPUTS * cols);
  fillNormal(values, randomFor(1, "trust"));
  fillNormal(inputs, randomFor(1, "inputs"));
  for (let i = 0; i < inputs.length; i++) inputs[i] = inputs[i]! + 2 * inputs[i - i % cols]!;
  writeModel(join(folder, "in.safetensors"), [
    tensorOf("blocks.0.q.weight", "F32", [rows, cols], values),
  ]);
  if (rank !== undefined) {
    const a = new Float32Array(rank * cols), b = new Float32Array(rows * rank);
    fillNormal(a, randomFor(1, "a"));
    fillNormal(b, randomFor(1, "b"));
    writeModel(join(folder, "lora.safetensors"), [
      tensorOf("diffusion_model.blocks.0.q.lora_A.weight", "F32", [rank, cols], a),
      tensorOf("diffusion_model.blocks.0.q.lora_B.weight", "F32", [rows, rank], b),
    ]);
  }
  if (!hasData) return;
  writeModel(join(folder, "calibration.safetensors"), [
    tensorOf("blocks.0.q.activations", "F32", [INPUTS, cols], inputs),
  ]);
}

/** Everything goes to the GPU, however small. */
function everything({ half }: Scene): (adapter: GpuService["adapter"]) => GpuPlacement {
  return ({ limits }) => {
    const placement = placementWithin(limits);
    return {
      ...placement,
      linalg: { ...placement.linalg, leastProducts: 1, leastHadamard: 1 },
      half: half === undefined ? null : {
        ...{ storage: half, leastElements: 1, aboveColumns: 0, mostColumns: 1 << 20 },
      },
    };
  };
}

let count = 0;

async function convert(folder: string, scene: Scene, gpu: GpuService | null) {
  const { hasData, measures, options, rank } = scene;
  const paths = [join(folder, "lora.safetensors")];
  const merge = rank === undefined
    ? {}
    : { merge: { paths, scale: 1, dampen: false, strict: true } };
  const output = join(folder, `${count++}.safetensors`);
  const failures: string[] = [];
  const calibration = hasData ? { calibrationPath: join(folder, "calibration.safetensors") } : {};
  const result = await convertModel({
    input: join(folder, "in.safetensors"),
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      ...options,
      ...calibration,
      ...merge,
    },
    workerUrl: WORKER_URL,
    workers: 2,
    measure: measures,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: (reason) => failures.push(reason),
  });
  return { result, bytes: bytesOfFile(output), failures };
}

/** The file of the CPU for each scene. */
const onCpuBy = new Map<string, Awaited<ReturnType<typeof convert>>>();

async function convertOnCpu(folder: string, scene: Scene) {
  const key = JSON.stringify({ ...scene, half: undefined });
  const known = onCpuBy.get(key) ?? await convert(folder, scene, null);
  onCpuBy.set(key, known);
  return known;
}

/** Converts with the shader broken; fails unless that is reported once and the file is the CPU's. */
async function assertFoundOut(
  scene: Scene,
  name: string,
  code: string,
  told: RegExp,
): Promise<void> {
  using folder = temporaryFolder();
  write(folder.path, scene);
  using gpu = await GpuService.start(workerWith(folder.path, name, code), everything(scene));
  const onCpu = await convertOnCpu(folder.path, scene);
  const { bytes, failures, result } = await convert(folder.path, scene, gpu);
  assert.equal(failures.length, 1, `${name} is not found out`);
  assert.match(failures[0]!, told, name);
  assert.deepEqual(bytes, onCpu.bytes, name);
  assert.equal(result.gpu!.failure, failures[0]);
  const figures = ({ layers }: typeof result) =>
    layers.map(({ errors, output }) => [errors, output]);
  assert.deepEqual(figures(result), figures(onCpu.result), name);
}

const SELF_TEST = /Cannot trust .*self-test fails in/;

/** The conversions that each shader has a part in, or that test it as one of their kind. */
const SMALL: readonly (readonly [Scene, readonly string[]])[] = [
  [{ ...PLAIN, rows: 64, cols: 256 }, [
    ...["decode", "absmax", "scale_from_absmax", "search_scale", "quantize", "rotate_group"],
  ]],
  [{ ...LONG, rows: 4 }, ["rotate"]],
  [{ ...LORA, rows: 64, cols: 256 }, ["feed_back", "add_low_rank"]],
  [{ ...FOUR, rows: 64, cols: 256 }, ["round_to_table"]],
  [{ ...SIX, rows: 64, cols: 256 }, ["round_to_steps"]],
  [{ ...FIFTEEN, rows: 64, cols: 256 }, ["search_clip", "quantize_levels"]],
  [{ ...FP8, rows: 64, cols: 256 }, ["round_floats", "decode"]],
  [{ ...NVFP4, rows: 64, cols: 256 }, ["round_floats"]],
  [{ ...GPTQ, rows: 64, cols: 256 }, [
    ...["gemm_f32", "ldlq_block", "gather_columns", "gather_codes"],
  ]],
  [{ ...GPTQ, rows: 64, cols: 256, half: "f16" }, ["gemm_f32_f16", "ldlq_block_f16", "narrow"]],
  [{ ...GPTQ_FOUR, rows: 64, cols: 256 }, ["ldlq_levels"]],
  [{ ...GPTQ_FOUR, rows: 64, cols: 256, half: "f16" }, ["ldlq_levels_f16"]],
  [{ ...LEARNED, rows: 20, cols: 256 }, ["descend_rows"]],
  [{ ...MEASURED, rows: 64 }, ["error_stats", "gemm_i8", "scaled_product"]],
  [{ ...QUIP, rows: 64, cols: 256 }, ["hadamard"]],
];

SMALL.forEach(([scene, names], group) => {
  names.forEach((name, index) => {
    // One way of breaking each: all ways of all shaders are those of the self-test's own test.
    const [way, broken] = (group + index) % 2 === 0
      ? ["leaves out half of the work", halfOfIt] as const
      : ["permutes the results", permuted] as const;
    testGpuOnly(
      `a device that ${way} of ${name} gives the bytes of the CPU, and one warning`,
      () => {
        // This one's stages cancel for some lengths, and half of a short row is all of it.
        const edit = name === "rotate" ? halfOfIt : name === "search_scale" ? permuted : broken;
        return assertFoundOut(scene, name, edit(shaderNamed(name)), SELF_TEST);
      },
    );
  });
});

/** Shaders that are wrong from a workgroup on which the self-test does not reach. */
const LARGE: readonly (readonly [Scene, string, number])[] = [
  [PLAIN, "decode", 64],
  [PLAIN, "absmax", 64],
  [PLAIN, "search_scale", 64],
  [PLAIN, "quantize", 64],
  [PLAIN, "rotate_group", 64],
  [LORA, "feed_back", 64],
  [{ ...LORA, cols: 1020 }, "add_low_rank", 64],
  [FOUR, "round_to_table", 64],
  [SIX, "round_to_steps", 64],
  [FOUR, "absmax", 64],
  [FIFTEEN, "search_clip", 64],
  [FIFTEEN, "quantize_levels", 64],
  [FIFTEEN, "scale_from_absmax", 6],
  [FP8, "round_floats", 64],
  [MXFP8, "round_floats", 16],
  [NVFP4, "round_floats", 16],
  [BLOCKS, "scale_from_absmax", 16],
  [LONG, "rotate", 64],
  [GPTQ, "gemm_f32", 64],
  [GPTQ, "ldlq_block", 16],
  [GPTQ, "gather_columns", 64],
  [GPTQ, "gather_codes", 64],
  [{ ...GPTQ, half: "f16" }, "narrow", 512],
  [{ ...GPTQ, half: "f16" }, "gemm_f32_f16", 16],
  [{ ...GPTQ, half: "f16" }, "ldlq_block_f16", 16],
  [GPTQ_FOUR, "ldlq_levels", 16],
  [{ ...GPTQ_FOUR, half: "f16" }, "ldlq_levels_f16", 16],
  [LEARNED, "descend_rows", 64],
  [MEASURED, "error_stats", 64],
  [MEASURED, "gemm_i8", 16],
  [MEASURED, "scaled_product", 512],
  [QUIP, "hadamard", 64],
];

for (const [scene, name, first] of LARGE) {
  testGpuOnly(`a device that computes ${name} wrong on large problems only is found out`, () => {
    const shader = shaderNamed(name);
    return assertFoundOut(scene, name, beyond(shader, first), /Cannot trust .*it computed/);
  });
}

/** Those that no conversion runs: kernels of the interface for tests and `doctor`, and for devices that lack a feature. */
const NOT_IN_RUNS = [
  ...["count_non_finite", "search_levels", "pack_levels", "dequantize"],
  ...["histogram", "cast_f16", "descend_sums", "gemm_i8_bits"],
];

Deno.test("every shader that a conversion runs is broken here on small problems and on large ones", () => {
  const all = ALL_SHADERS.map(({ name }) => name).sort();
  const small = SMALL.flatMap(([, names]) => names), large = LARGE.map(([, name]) => name);
  assert.deepEqual([...new Set([...small, ...NOT_IN_RUNS])].sort(), all);
  assert.deepEqual([...new Set([...large, ...NOT_IN_RUNS])].sort(), all);
});

testGpuOnly("convertModel() measures what a GPU rounded as it does the CPU's codes", async () => {
  using folder = temporaryFolder();
  const scene = { ...PLAIN, rows: 64, cols: 256 };
  write(folder.path, scene);
  using gpu = await GpuService.start(WORKER_URL);
  const onCpu = await convert(folder.path, scene, null);
  const there = await convert(folder.path, scene, gpu);
  assert.equal(there.result.gpu!.operations, 1);
  assert.deepEqual(there.result.layers[0]!.errors, onCpu.result.layers[0]!.errors);
});
