import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import type { DType } from "../../src/core/dtype.ts";
import { DTYPE_BITS } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { inspectModel } from "../../src/convert/inspect.ts";
import { planMigration } from "../../src/edit/plan_migration.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { markerTensor, WORKER_URL } from "../support/encode.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const ones = (name: string, dtype: DType, shape: number[]): Tensor => {
  const count = shape.reduce((product, size) => product * size, 1);
  return { name, dtype, shape, data: new Uint8Array(count * DTYPE_BITS[dtype] / 8).fill(1) };
};
const one = (name: string, shape: number[] = [], value = 1) =>
  tensorOf(
    name,
    "F32",
    shape,
    new Float32Array(shape.reduce((n, size) => n * size, 1)).fill(value),
  );
const PLAIN = ones("blocks.9.mlp.up.weight", "BF16", [512, 256]);

/** The message of every command about a file; nothing must be written. */
async function sayAll(tensors: readonly Tensor[], metadata: Record<string, string> | null = null) {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, [...tensors, PLAIN], metadata);
  const model = openModel(input);
  using reader = new TensorReader(model);
  const read = (tensor: Parameters<typeof reader.read>[0]) => reader.read(tensor);
  const said = async (run: () => unknown): Promise<string> => {
    try {
      await run();
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const convert = (requantize: boolean) =>
    said(() =>
      convertModel({
        input,
        output,
        options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, requantize },
        workerUrl: WORKER_URL,
        workers: 1,
      })
    );
  const report = await verifyModel(model, pool);
  const inspection = inspectModel(model, read);
  const answers = {
    convert: await convert(false),
    requantize: await convert(true),
    dequantize: await said(() => dequantizeModel(model, { output, dtype: "F32", pool })),
    migrate: await said(() => planMigration(model, read)),
    verify: report.problems.map((problem) => `${problem.layer} ${problem.rule} ${problem.detail}`),
    loads: report.loads,
    inspect: [...Object.keys(inspection.quantized), ...inspection.markerProblems].join("; "),
  };
  assert.deepEqual(readdirSync(folder.path), ["in.safetensors"], "nothing is written");
  return answers;
}

/** Layers in layouts that are not decoded, and the name they are refused by. */
const FOREIGN: readonly (readonly [RegExp, readonly Tensor[]])[] = [
  [/LLM\.int8/, [ones("l.weight", "I8", [32, 32]), one("l.SCB", [32])]],
  [/NF4/, [
    ones("l.weight", "U8", [512, 1]),
    one("l.weight.absmax", [16]),
    one("l.weight.quant_map", [16]),
    ones("l.weight.quant_state.bitsandbytes__nf4", "U8", [40]),
  ]],
  [/GPTQ/, [
    ones("l.qweight", "I32", [4, 32]),
    ones("l.qzeros", "I32", [1, 4]),
    one("l.scales", [1, 32]),
    ones("l.g_idx", "I32", [32]),
  ]],
  [/AWQ/, [
    ones("l.qweight", "I32", [32, 4]),
    ones("l.qzeros", "I32", [1, 4]),
    one("l.scales", [1, 32]),
  ]],
  [/quanto/, [ones("l.weight._data", "I8", [32, 32]), one("l.weight._scale", [32, 1])]],
  [/SDNQ/, [
    ones("l.weight", "U8", [32, 32]),
    one("l.scale", [32, 1]),
    one("l.zero_point", [32, 1]),
  ]],
  [/SDNQ/, [
    ones("l.weight", "I8", [32, 32]),
    one("l.scale", [32, 1]),
    one("l.svd_up", [32, 4]),
    one("l.svd_down", [4, 32]),
  ]],
  [/nunchaku/, [
    ones("l.qweight", "I8", [32, 16]),
    one("l.wscales", [1, 32]),
    one("l.lora_down", [32, 4]),
    one("l.smooth", [32]),
  ]],
  [/compressed-tensors/, [
    ones("l.weight_packed", "I32", [32, 4]),
    one("l.weight_scale", [32, 1]),
    ones("l.weight_shape", "I64", [2]),
  ]],
  [/HQQ/, [ones("l.W_q", "U8", [32, 16]), one("l.scale", [32, 1]), one("l.zero", [32, 1])]],
  [/MLX/, [ones("l.weight", "U32", [32, 4]), one("l.scales", [32, 1]), one("l.biases", [32, 1])]],
  [/GGUF/, [ones("l.weight", "U8", [32, 34])]],
  [/awq_w4a16/, [
    ones("l.weight", "I8", [32, 32]),
    ones("l.weight_scale", "BF16", [1, 32]),
    ones("l.weight_zeros", "BF16", [1, 32]),
    markerTensor("l", { format: "awq_w4a16", group_size: 64 }),
  ]],
  [/I8 \[32, 32\] .*nothing says/, [ones("l.weight", "I8", [32, 32])]],
  [/I32 \[32, 8\]/, [ones("l.weight", "I32", [32, 8])]],
  [/I8 \[2, 32, 32\]/, [ones("l.experts.up", "I8", [2, 32, 32])]],
  [/I8 \[64, 64\]/, [ones("l.qkv_w", "I8", [64, 64])]],
  [/ExLlama/, [
    ones("l.q_weight", "I32", [64, 64]),
    ones("l.q_scale", "I32", [4, 8]),
    ones("l.q_groups", "I16", [8]),
  ]],
  [/ExLlama/, [ones("l.trellis", "I16", [4, 4, 64]), one("l.suh", [64]), one("l.svh", [64])]],
  [/AQLM/, [
    ones("l.codes", "I16", [64, 8, 1]),
    one("l.codebooks", [1, 256, 1, 8]),
    one("l.scales", [64, 1, 1, 1]),
  ]],
  [/QuIP#/, [ones("l.Qidxs", "I16", [64, 8]), one("l.SU", [64]), one("l.SV", [64])]],
  [/quanto/, [ones("l.weight._data", "F8_E4M3", [32, 32]), one("l.weight._scale", [32, 1])]],
  [/NF4/, [ones("l.weight", "U8", [512]), one("l.weight.absmax", [16])]],
  [/torchao/, [
    ones("l._weight_qdata", "I8", [32, 32]),
    one("l._weight_scale", [32, 1]),
    ones("l._weight_zero_point", "I8", [32, 1]),
  ]],
  [/torchao/, [ones("l._weight_qdata", "F8_E4M3", [32, 32]), one("l._weight_scale", [32, 4])]],
  [/pre_quant_scale \(AWQ of ModelOpt\)/, [
    ones("l.weight", "U8", [32, 16]),
    ones("l.weight_scale", "F8_E4M3", [32, 2]),
    one("l.weight_scale_2"),
    one("l.pre_quant_scale", [32]),
  ]],
  [/l\.odd_scale is above 1/, [ones("l.weight", "F8_E4M3", [32, 32]), one("l.odd_scale", [], 90)]],
  [/odd_scale_a/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    one("l.odd_scale_a"),
    one("l.odd_scale_b"),
  ]],
  [/weight_zero_point/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    one("l.weight_scale"),
    one("l.weight_zero_points"),
  ]],
  [/input_scale/, [ones("l.weight", "F8_E4M3", [32, 32]), one("l.input_scale")]],
];

FOREIGN.forEach(([name, tensors], index) => {
  Deno.test(`every command refuses ${name.source} by name, ${index}`, async () => {
    const { loads, verify, ...answers } = await sayAll(tensors);
    for (const command of ["convert", "requantize", "dequantize"] as const) {
      assert.match(answers[command], name, command);
      assert.match(answers[command], /"l[."]|l\.experts/, command);
    }
    assert.match(answers.inspect, name);
    if (name.source === "awq_w4a16") return assert.deepEqual([loads, verify], [true, []]);
    assert.match(answers.migrate, name);
    assert.equal(loads, false);
    assert.match(verify.join("\n"), name);
  });
});

const codes = ones("l.weight", "I8", [32, 32]);
const marker = markerTensor("l", { format: "int8_tensorwise" });
const row = one("l.weight_scale", [32, 1]);

/** Layers that contradict themselves: what `--requantize` and `dequantize` say, and the rule of `verify`. */
const BROKEN: readonly (readonly [RegExp, RegExp, readonly Tensor[], Record<string, string>?])[] = [
  [/it is F8_E4M3, its marker says int8_tensorwise/, /weight-dtype/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    row,
    marker,
  ]],
  [/it is I8, its marker says float8_e4m3fn/, /weight-dtype/, [
    codes,
    one("l.weight_scale"),
    markerTensor("l", { format: "float8_e4m3fn" }),
  ]],
  [/do not fit the int8_tensorwise weight/, /scale-shape/, [
    codes,
    one("l.weight_scale", [7]),
    marker,
  ]],
  [/do not fit the FP8 weight/, /unmarked-fp8/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    one("l.scale", [7]),
  ]],
  [/two formats: .*LLM\.int8/, /two-formats/, [codes, row, marker, one("l.SCB", [32])]],
  [/two formats: /, /two-formats/, [codes, one("l.SCB", [32]), one("l.weight.absmax", [16])]],
  [/weight_codebook, which/, /strange-companion/, [
    codes,
    row,
    marker,
    one("l.weight_codebook", [16]),
  ]],
  [/belongs to no weight/, /marker-without-weight/, [row, marker]],
  [/"l" has weight_scale and no weight/, /half-layer/, [row]],
  [/"l" has scale_weight and no weight/, /half-layer/, [one("l.scale_weight")]],
  [/"l" has scales and no weight/, /half-layer/, [one("l.scales", [4, 32])]],
  [/"l\.up" has scales and no weight/, /half-layer/, [ones("l.up_scales", "U8", [4, 32])]],
  [/has no weight_scale/, /scale-missing/, [codes, marker]],
  [/has no weight_scale/, /scale-missing/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    markerTensor("l", { format: "float8_e4m3fn" }),
  ]],
  [/has no weight_s_rel/, /scale-missing/, [
    codes,
    markerTensor("l", { format: "asym_w4a8_int8" }),
  ]],
  [/lists layers that it does not have: "gone"/, /metadata-absent-layer/, [codes, row, marker], {
    _quantization_metadata: JSON.stringify({ layers: { gone: { format: "int8_tensorwise" } } }),
  }],
  [/weight_scale.*NaN|NaN.*weight_scale/, /scale-not-finite/, [
    codes,
    one("l.weight_scale", [32, 1], NaN),
    marker,
  ]],
  [/NaN or infinite/, /scale-not-finite/, [
    codes,
    one("l.weight_scale", [32, 1], Infinity),
    marker,
  ]],
  [/are negative/, /scale-negative/, [codes, one("l.weight_scale", [32, 1], -1), marker]],
  [/are zero, and their codes are not/, /scale-zero/, [
    codes,
    one("l.weight_scale", [32, 1], 0),
    marker,
  ]],
  [/are zero, and their codes are not/, /scale-zero/, [
    ones("l.weight", "U8", [16, 16]),
    tensorOf("l.weight_scale", "F8_E4M3", [128, 4], new Uint8Array(512)),
    one("l.weight_scale_2"),
    markerTensor("l", { format: "nvfp4" }),
  ]],
  [/NaN or infinite/, /scale-not-finite/, [
    ones("l.weight", "F8_E4M3", [32, 32]),
    tensorOf("l.weight_scale", "U8", [128, 4], new Uint8Array(512).fill(255)),
    markerTensor("l", { format: "mxfp8" }),
  ]],
  [/has 100000000 bytes, no JSON marker/, /marker-malformed/, [
    codes,
    row,
    tensorOf("l.comfy_quant", "U8", [100_000_000], new Uint8Array(100_000_000)),
  ]],
  [/"params" in it differ in "convrot"/, /marker-params/, [
    codes,
    row,
    markerTensor("l", { format: "int8_tensorwise", convrot: false, params: { convrot: true } }),
  ]],
];

BROKEN.forEach(([message, rule, tensors, metadata], index) => {
  Deno.test(`a layer that contradicts itself is an error: ${message.source}, ${index}`, async () => {
    const { requantize, dequantize, migrate, verify, loads } = await sayAll(
      tensors,
      metadata ?? null,
    );
    for (
      const said of [requantize, dequantize, ...(rule.source === "half-layer" ? [migrate] : [])]
    ) {
      assert.match(said, message);
      assert.match(said, /in\.safetensors/);
    }
    assert.equal(loads, false);
    assert.match(verify.join("\n"), rule);
  });
});

Deno.test("migrate drops markers of nothing but NUL bytes, dequantize names them", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [
    PLAIN,
    tensorOf("blocks.9.mlp.up.comfy_quant", "U8", [29], new Uint8Array(29)),
  ]);
  const model = openModel(input);
  using reader = new TensorReader(model);
  const { edited } = planMigration(model, (tensor) => reader.read(tensor));
  assert.deepEqual(edited.outputs.map(({ name }) => name), ["blocks.9.mlp.up.weight"]);
  await assert.rejects(
    dequantizeModel(model, { output: join(folder.path, "out.safetensors"), dtype: "F32", pool }),
    /no quantized layers: "blocks\.9\.mlp\.up\.comfy_quant" hold NUL bytes .*migrate/,
  );
});
