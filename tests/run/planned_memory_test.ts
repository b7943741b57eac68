/** Planned memory beside the memory that tasks take: of every kind, in every manner. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { verifyAgainstSource } from "../../src/verify/verify_source.ts";
import { floatMatrix } from "../../src/formats/float_matrix.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { placementWithin } from "../../src/run/gpu_tasks.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { WORKER_URL } from "../support/encode.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { MeasuredPool } from "../support/measured_pool.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const ROWS = 512, COLS = 1280, TOKENS = 96;

/** Numbers in -1..1 by a seeded LCG. */
function deviates(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from(
    { length: count },
    () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1,
  );
}

function bf16(name: string, shape: readonly number[], seed: number): Tensor {
  const values = deviates(shape.reduce((a, b) => a * b, 1), seed);
  return tensorOf(name, "BF16", shape, Uint16Array.from(values, f32ToBf16));
}

interface Files {
  readonly folder: string;
  readonly model: string;
  readonly activations: string;
  readonly fewActivations: string;
  /** So few that all rows are looked at for what compensation made of them. */
  readonly rareActivations: string;
  readonly hessian: string;
  readonly channels: string;
  readonly lora: string;
}

function writeFiles(folder: string): Files {
  const path = (name: string) => join(folder, `${name}.safetensors`);
  const files = {
    folder,
    model: path("model"),
    activations: path("activations"),
    fewActivations: path("few"),
    rareActivations: path("rare"),
    hessian: path("hessian"),
    channels: path("channels"),
    lora: path("lora"),
  };
  writeModel(files.model, [
    bf16("blocks.0.q.weight", [ROWS, COLS], 1),
    tensorOf("blocks.0.q.bias", "F32", [ROWS], deviates(ROWS, 2)),
    tensorOf("blocks.0.norm.scale", "F32", [1 << 16], deviates(1 << 16, 3)),
  ]);
  const rows = (count: number) =>
    tensorOf("blocks.0.q.activations", "F32", [count, COLS], deviates(count * COLS, 4));
  writeModel(files.activations, [rows(1100)]);
  writeModel(files.fewActivations, [rows(TOKENS)]);
  writeModel(files.rareActivations, [rows(3)]);
  const h = new Float32Array(COLS * COLS);
  for (let i = 0; i < COLS; i++) {
    for (let j = 0; j < COLS; j++) h[i * COLS + j] = i === j ? 1 : 0.3 ** Math.abs(i - j);
  }
  writeModel(files.hessian, [tensorOf("blocks.0.q.hessian", "F32", [COLS, COLS], h)]);
  writeModel(files.channels, [
    tensorOf("blocks.0.q.channel_max", "F32", [COLS], deviates(COLS, 5).map(Math.abs)),
  ]);
  writeModel(files.lora, [
    tensorOf("blocks.0.q.lora_A.weight", "F32", [16, COLS], deviates(16 * COLS, 6)),
    tensorOf("blocks.0.q.lora_B.weight", "F32", [ROWS, 16], deviates(16 * ROWS, 7)),
  ]);
  return files;
}

type Case = (files: Files) => Partial<ConvertOptions>;

const learned = { ...DEFAULT_CONVERT_OPTIONS.learned, iterations: 8 };
const calibrated: Case = ({ activations }) => ({ calibrationPath: activations });
const quip = (options: Partial<ConvertOptions["quip"]>) => ({
  method: "quip" as const,
  quip: { ...DEFAULT_CONVERT_OPTIONS.quip, ...options },
});

/** Options by what is special of them. */
const CASES: Readonly<Record<string, Case>> = {
  "round to nearest": () => ({ method: "simple" }),
  "round to nearest, scale search": () => ({}),
  "one scale": () => ({ scaling: "tensor" }),
  blocks: () => ({ scaling: "block" }),
  "merged LoRA": ({ lora }) => ({ merge: merged(lora) }),
  "merged LoRA, plain rows": ({ lora }) => ({ merge: merged(lora), convrot: "off" }),
  "6 bits": () => ({ output: "w6a8" }),
  "4 bits": () => ({ output: "w4a8" }),
  "4 bits in 15 levels": () => ({ output: "w4a4" }),
  "4 bits in 15 levels, gptq": (f) => ({ ...calibrated(f), output: "w4a4" }),
  "4 bits, gptq": (f) => ({ ...calibrated(f), output: "w4a8" }),
  "6 bits, gptq of few rows": ({ fewActivations }) => ({
    calibrationPath: fewActivations,
    output: "w6a8",
  }),
  "floats of 8 bits": () => ({ output: "fp8" }),
  "floats of 8 bits, merged LoRA": ({ lora }) => ({ output: "fp8", merge: merged(lora) }),
  "floats of 4 bits": () => ({ output: "nvfp4" }),
  "cast to F16": () => ({ output: "fp16" }),
  "values looked for": () => ({ nonfinite: "keep" }),
  gptq: calibrated,
  "gptq, static activations": (f) => ({ ...calibrated(f), staticActivations: true }),
  "gptq, plain rows": (f) => ({ ...calibrated(f), convrot: "off" }),
  "gptq in f32": (f) => ({ ...calibrated(f), turbo: false }),
  "gptq in the space of few rows": ({ fewActivations }) => ({ calibrationPath: fewActivations }),
  "gptq, blocks": (f) => ({ ...calibrated(f), scaling: "block" }),
  "gptq, one scale": (f) => ({ ...calibrated(f), scaling: "tensor" }),
  "gptq with rows held out": (f) => ({ ...calibrated(f), calibrationHoldout: 0.1 }),
  "4 bits, gptq with rows held out": (f) => ({
    ...calibrated(f),
    calibrationHoldout: 0.1,
    output: "w4a8",
  }),
  "gptq in segments": (f) => ({ ...calibrated(f), segments: { threshold: 1, count: 5 } }),
  "gptq from a Hessian": ({ hessian }) => ({ calibrationPath: hessian }),
  "gptq from channels": ({ channels }) => ({ calibrationPath: channels }),
  "gptq of a merged LoRA": (f) => ({ ...calibrated(f), merge: merged(f.lora) }),
  "gptq with LoRA directions": (f) => ({ ...calibrated(f), calibrationLora: f.lora }),
  quip: (f) => ({ ...calibrated(f), ...quip({}) }),
  "quip, plain rows": (f) => ({ ...calibrated(f), ...quip({}), scaling: "row", convrot: "off" }),
  "quip, stored transformed": ({ rareActivations }) => ({
    calibrationPath: rareActivations,
    ...quip({ storeTransformed: true }),
  }),
  "quip, stored transformed, in f32": ({ rareActivations }) => ({
    calibrationPath: rareActivations,
    ...quip({ storeTransformed: true }),
    turbo: false,
  }),
  "quip, stored transformed, without data": () => quip({ storeTransformed: true }),
  learned: () => ({ method: "original", learned }),
  "learned by gradients": () => ({ method: "adamw", learned }),
  "learned in all directions": () => ({
    method: "original",
    learned: { ...learned, fullMatrix: true },
  }),
  "learned, blocks": () => ({ method: "original", learned, scaling: "block" }),
  "learned, one scale": () => ({ method: "original", learned, scaling: "tensor" }),
  "learned with data": (f) => ({ ...calibrated(f), method: "original", learned }),
  "learned with data by gradients": (f) => ({ ...calibrated(f), method: "radam", learned }),
};

function merged(path: string): ConvertOptions["merge"] {
  return { paths: [path], scale: 1, dampen: true, strict: false };
}

/** Most that may be planned beside what is taken. */
const MOST = 1.1;

function check(pool: MeasuredPool, what: string): void {
  const wrong = pool.measured.filter(({ planned, used }) => planned < used || planned > MOST * used)
    .map(({ task, memory, planned, used }) =>
      `${what}: ${task.kind} ${task.name}, ${memory}: ${planned} planned, ${used} used, ` +
      (planned / used).toFixed(3)
    );
  assert.deepEqual(wrong, []);
}

/** Converts with one pool on this thread, and with a GPU if there is one. */
async function measured(
  { folder, model }: Pick<Files, "folder" | "model">,
  options: Partial<ConvertOptions>,
  gpu: GpuService | null = null,
): Promise<{ pool: MeasuredPool; output: string; result: ConvertResult }> {
  const pool = new MeasuredPool(gpu), output = join(folder, "out.safetensors");
  const result = await convertModel({
    input: model,
    output,
    force: true,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER_URL,
    pools: pool.pools,
    workers: 1,
    measure: true,
    openGpu: () => Promise.resolve(gpu),
  });
  return { pool, output, result };
}

async function convert(
  files: Files,
  what: string,
): Promise<{ pool: MeasuredPool; output: string }> {
  return await measured(files, CASES[what]!(files));
}

for (const what of Object.keys(CASES)) {
  Deno.test(`a conversion plans the memory that it takes, and little more: ${what}`, async () => {
    using folder = temporaryFolder();
    const { pool } = await convert(writeFiles(folder.path), what);
    assert.ok(pool.measured.some(({ task }) => task.kind === "quantize" || task.kind === "cast"));
    check(pool, what);
  });
}

/** Ways to store what is read back. */
const STORED = [
  "round to nearest",
  "one scale",
  "blocks",
  "4 bits",
  "quip, stored transformed, without data",
];

for (const what of STORED) {
  Deno.test(`reading a model back plans the memory that it takes: ${what}`, async () => {
    using folder = temporaryFolder();
    const files = writeFiles(folder.path);
    const { output } = await convert(files, what);
    const pool = new MeasuredPool(), source = openModel(output);
    await dequantizeModel(source, {
      dtype: "BF16",
      output: join(folder.path, "back.safetensors"),
      pool: pool.pool,
    });
    await verifyAgainstSource(source, openModel(files.model), { pool: pool.pool });
    assert.ok(pool.measured.some(({ task }) => task.kind === "compare"));
    check(pool, what);
  });
}

Deno.test("the largest magnitudes of columns plan the memory that they take", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const source = openModel(model), pool = new MeasuredPool();
  const weight = source.tensors.find(({ name }) => name.endsWith("q.weight"))!;
  const task = {
    kind: "columnMax",
    name: weight.name,
    source: floatMatrix(weight),
    out: new Float32Array(16 * COLS),
  } as const;
  await pool.run({ inputPaths: source.paths, outputs: [], tasks: [task] });
  assert.ok(task.out.some((value) => value > 0.9));
  check(pool, "columnMax");
});

/** An expert bank, and what may be known of its inputs. */
const EXPERTS = 4, BANK = "model.layers.0.mlp.experts.gate_up_proj";

function writeBank(folder: string): Pick<Files, "folder" | "model"> {
  const model = join(folder, "bank.safetensors");
  writeModel(model, [
    bf16(`${BANK}.weight`, [EXPERTS, 256, COLS], 8),
    bf16("model.layers.0.mlp.router.weight", [32, COLS], 9),
    bf16("model.layers.0.self_attn.q_proj.weight", [256, COLS], 10),
    tensorOf("model.layers.0.self_attn.sinks", "F32", [8], deviates(8, 11)),
  ]);
  return { folder, model };
}

/** Names of what the calibration data knows the inputs of. */
const BANK_DATA: Readonly<Record<string, readonly string[]>> = {
  "without data": [],
  "with data of the layer": [BANK],
  "with data of each expert": Array.from(
    { length: EXPERTS },
    (_, i) => `model.layers.0.mlp.experts.${i}.gate_up_proj`,
  ),
  "with data of some experts": ["model.layers.0.mlp.experts.1.gate_up_proj"],
};

for (const [what, names] of Object.entries(BANK_DATA)) {
  for (const method of ["auto", "original"] as const) {
    Deno.test(`an expert bank plans the memory that it takes: ${method}, ${what}`, async () => {
      using folder = temporaryFolder();
      const files = writeBank(folder.path), calibrationPath = join(folder.path, "data.safetensors");
      writeModel(
        calibrationPath,
        names.map((name, i) =>
          tensorOf(`${name}.activations`, "F32", [TOKENS, COLS], deviates(TOKENS * COLS, 20 + i))
        ),
      );
      const { pool } = await measured(files, {
        preset: { kind: "auto" },
        method,
        learned,
        calibrationPath: names.length === 0 ? null : calibrationPath,
      });
      const banks = pool.measured.filter(({ task }) => task.name.startsWith(BANK));
      const tasks = new Set(banks.map(({ task }) => task));
      const isByExpert = names.length > 0 && !names.includes(BANK);
      assert.equal(
        [...tasks].filter(({ kind }) => kind === "quantize").length,
        isByExpert ? EXPERTS : 1,
      );
      check(pool, what);
    });
  }
}

/** Tasks that a GPU takes part in. */
const ON_GPU: readonly string[] = [
  "round to nearest",
  "round to nearest, scale search",
  "blocks",
  "merged LoRA",
  "merged LoRA, plain rows",
  "4 bits in 15 levels",
  "floats of 8 bits",
  "floats of 8 bits, merged LoRA",
  "floats of 4 bits",
  "gptq",
  "gptq, blocks",
  "gptq of a merged LoRA",
  "quip",
  "quip, stored transformed",
  "learned with data",
];

for (const what of ON_GPU) {
  testGpuOnly(`a conversion on a GPU plans the memory that it takes: ${what}`, async () => {
    using folder = temporaryFolder();
    const files = writeFiles(folder.path);
    using gpu = await GpuService.start(WORKER_URL, ({ limits }) => {
      const placement = placementWithin(limits);
      return { ...placement, linalg: { ...placement.linalg, leastProducts: 1, leastHadamard: 1 } };
    });
    const { pool, result } = await measured(files, CASES[what]!(files), gpu);
    const { failure, operations } = result.gpu!;
    assert.equal(failure, null);
    assert.ok(operations > 0);
    check(pool, what);
  });
}
