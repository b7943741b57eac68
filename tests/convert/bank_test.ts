import assert from "node:assert/strict";
import { join } from "node:path";
import { bf16ToF32, f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { type LayerEntry, parseLayerConfig } from "../../src/config/layer_config.ts";
import { NO_LAYER_FLAGS, readLayerFlags } from "../../src/config/layer_overrides.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { relativeError, seededFloats } from "../lora/floats.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { rotateExplicitly } from "../support/rtn_oracle.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);
const E = 3, N = 64, K = 256;

const bf16 = (name: string, shape: number[], seed: number): Tensor => {
  const count = shape.reduce((product, size) => product * size, 1);
  return tensorOf(name, "BF16", shape, Uint16Array.from(seededFloats(count, seed), f32ToBf16));
};

/** A layer of a model with experts, its bank under `bank`. */
function expertModel(layer: string, bank: string, more: Tensor[] = []): Tensor[] {
  return [
    bf16(`${layer}.${bank}.weight`, [E, N, K], 1),
    bf16(`${layer}.mlp.router.weight`, [32, K], 2),
    bf16(`${layer}.self_attn.q_proj.weight`, [N, K], 3),
    bf16(`${layer}.self_attn.sinks`, [8], 4),
    ...more,
  ];
}

const GPT_OSS = () => expertModel("model.layers.0", "mlp.experts.gate_up_proj");
const BANK = "model.layers.0.mlp.experts.gate_up_proj";

async function convert(tensors: Tensor[], options: Partial<ConvertOptions> = {}) {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER, 1);
  const input = join(folder.path, "in.safetensors"), output = join(folder.path, "out.safetensors");
  writeModel(input, tensors);
  let notes: readonly string[] = [];
  await convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, ...options },
    workerUrl: WORKER,
    workers: 2,
    onPlan: (start) => notes = start.notes,
  });
  const report = await verifyModel(openModel(output), pool);
  return { out: readModel(output), notes: notes.join("\n"), report };
}

/** The values of a bank in `out`, decoded expert by expert without the program's code. */
function decoded(out: ReadonlyMap<string, Tensor>, group: number | null): Float32Array {
  const codes = new Int8Array(out.get(`${BANK}.weight`)!.data.slice().buffer);
  const scales = new Float32Array(out.get(`${BANK}.weight_scale`)!.data.slice().buffer);
  const values = Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / K)]!);
  return group === null
    ? values
    : Float32Array.from(rotateExplicitly(values, { rows: E * N, cols: K, g: group }));
}

const markerOf = (out: ReadonlyMap<string, Tensor>) =>
  new TextDecoder().decode(out.get(`${BANK}.comfy_quant`)!.data);

function sourceOf(tensors: readonly Tensor[]): Float32Array {
  const data = tensors.find(({ name }) => name === `${BANK}.weight`)!.data.slice().buffer;
  return Float32Array.from(new Uint16Array(data), bf16ToF32);
}

Deno.test("convertModel() writes a bank as its loader reads it, rotated, and names the ComfyUI it needs", async () => {
  const tensors = GPT_OSS();
  const { out, notes, report } = await convert(tensors);
  assert.deepEqual(out.get(`${BANK}.weight`)!.shape, [E, N, K]);
  assert.equal(out.get(`${BANK}.weight`)!.dtype, "I8");
  assert.deepEqual(out.get(`${BANK}.weight_scale`)!.shape, [E, N, 1]);
  assert.equal(
    markerOf(out),
    '{"format": "int8_tensorwise", "num_experts": 3, "convrot": true, "convrot_groupsize": 256}',
  );
  assert.ok(relativeError(decoded(out, 256), sourceOf(tensors)) < 0.01);
  assert.match(notes, /1 expert bank is rotated, which needs a ComfyUI LATER THAN 0\.33\.0/);
  assert.equal(out.get("model.layers.0.mlp.router.weight")!.dtype, "BF16");
  assert.equal(report.loads, true);
  assert.deepEqual(report.problems.map(({ rule }) => rule), ["bank-rotated"]);
});

Deno.test("convertModel() writes plain rows of a bank on request, which need no new ComfyUI", async () => {
  const tensors = GPT_OSS();
  const { out, notes, report } = await convert(tensors, { convrot: "off" });
  assert.equal(markerOf(out), '{"format": "int8_tensorwise", "num_experts": 3}');
  assert.ok(relativeError(decoded(out, null), sourceOf(tensors)) < 0.01);
  assert.doesNotMatch(notes, /0\.33\.0/);
  assert.deepEqual(report.problems, []);
});

Deno.test("convertModel() gives a bank rows whatever other layers get", async () => {
  for (const scaling of ["tensor", "block"] as const) {
    const { out, report } = await convert(GPT_OSS(), { scaling, blockSize: 64 });
    assert.deepEqual(out.get(`${BANK}.weight_scale`)!.shape, [E, N, 1], scaling);
    assert.equal(report.problems.some(({ layer }) => layer === BANK), false);
  }
});

Deno.test("convertModel() compensates the errors of a bank by calibration data of its layer", async () => {
  using folder = temporaryFolder();
  const calibrationPath = join(folder.path, "calibration.safetensors");
  const rows = seededFloats(128 * K, 9).map((x, i) => x * (i % K < 4 ? 20 : 1));
  writeModel(calibrationPath, [
    tensorOf(`${BANK}.activations`, "F32", [128, K], rows),
  ]);
  const tensors = GPT_OSS();
  const { out } = await convert(tensors, { calibrationPath });
  const plain = await convert(tensors);
  const error = (values: Float32Array) => {
    const source = sourceOf(tensors);
    let sum = 0;
    for (let n = 0; n < E * N; n++) {
      for (let t = 0; t < 128; t++) {
        let y = 0;
        for (let k = 0; k < K; k++) {
          y += (values[n * K + k]! - source[n * K + k]!) * rows[t * K + k]!;
        }
        sum += y * y;
      }
    }
    return sum;
  };
  assert.ok(error(decoded(out, 256)) < 0.8 * error(decoded(plain.out, 256)));
});

Deno.test("convertModel() takes the banks of every family that has some", async () => {
  const cases: readonly [string, string, Tensor[]][] = [
    ["layers.0", "mlp.experts.down_proj", [
      bf16("layers.0.mlp.experts.gate_up_proj.bias", [E, N], 5),
    ]],
    [
      "model.language_model.layers.0",
      "mlp.experts.gate_up_proj",
      [bf16("model.language_model.layers.0.self_attn.k_proj.weight", [N, K], 6)],
    ],
    ["thinker.layers.1", "mlp.experts.down_proj", [
      bf16("thinker.layers.1.attention.query_key_value.weight", [N, K], 7),
    ]],
    ["model.layers.0", "mlp.experts_down_proj", [
      bf16("model.layers.0.mlp.gate.wg.weight", [4, K], 8),
    ]],
  ];
  for (const [layer, bank, more] of cases) {
    const image = bf16(`${layer}.mlp.image_gate.proj.weight`, [4, K], 8);
    const isMing = layer.startsWith("thinker");
    const tensors = expertModel(layer, bank, isMing ? [...more, image] : more)
      .filter(({ name }) => layer === "layers.0" || !name.endsWith("sinks"));
    const { out, report } = await convert(tensors, { convrot: "off" });
    assert.equal(out.get(`${layer}.${bank}.weight`)!.dtype, "I8", layer);
    assert.deepEqual([report.loads, report.problems], [true, []], layer);
  }
});

Deno.test("prepare() lets a layer config name the banks of the family, as any layer", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(path, [...GPT_OSS(), bf16("model.layers.0.mlp.mixers.weight", [E, N, K], 6)]);
  const planned = (pattern: string, entry: Partial<LayerEntry>) => {
    const layers = {
      config: parseLayerConfig(JSON.stringify({ [pattern]: entry }), "layers.json"),
      fullmatch: false,
      flags: readLayerFlags(NO_LAYER_FLAGS),
    };
    const { plan } = prepare(path, { ...DEFAULT_CONVERT_OPTIONS, layers });
    const { action, scheme } = plan.tensors.find(({ source }) => source.name === `${BANK}.weight`)!;
    return { action, group: scheme?.convrotGroupSize, fallbacks: plan.fallbacks.join() };
  };
  const of = (action: string, group?: number | null) => ({ action, group, fallbacks: "" });
  assert.deepEqual(planned("mlp.experts", { skip: true }), of("keep"));
  assert.deepEqual(planned(BANK.replaceAll(".", "\\."), { format: "fp16" }), of("cast"));
  assert.deepEqual(planned("gate_up", { convrot: "off" }), of("quantize", null));
  assert.deepEqual(planned("experts", { convrot: 64 }), of("quantize", 64));
  assert.match(
    planned("experts", { scaling_mode: "tensor" }).fallbacks,
    /expert banks have no other/,
  );
  assert.throws(() => planned("mixers", { skip: true }), /none of the layers .* "mixers"/);
});

Deno.test("convertModel() quantizes with --like the banks that the other file has", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, GPT_OSS());
  const to = async (name: string, options: Partial<ConvertOptions>) => {
    const output = join(folder.path, name);
    await convertModel({
      input,
      output,
      options: { ...DEFAULT_CONVERT_OPTIONS, ...options },
      workerUrl: WORKER,
      workers: 1,
    });
    return readModel(output);
  };
  const first = await to("a.safetensors", { convrot: "off" });
  const path = join(folder.path, "a.safetensors");
  assert.deepEqual(await to("b.safetensors", { preset: { kind: "like", path } }), first);
});

Deno.test("convertModel() merges LoRAs into banks, of all experts and of single ones", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "lora.safetensors"), R = 2;
  const [a, b] = [seededFloats(R * K, 21), seededFloats(E * N * R, 22)];
  const tensors = GPT_OSS(), wanted = sourceOf(tensors).slice();
  for (let i = 0; i < wanted.length; i++) {
    const row = Math.floor(i / K);
    for (let r = 0; r < R; r++) wanted[i] = wanted[i]! + b[row * R + r]! * a[r * K + i % K]!;
  }
  const lora = (name: string, first: number, rows: number) => [
    tensorOf(`${name}.lora_A.weight`, "F32", [R, K], a),
    tensorOf(`${name}.lora_B.weight`, "F32", [rows, R], b.slice(first * R, (first + rows) * R)),
  ];
  const forms = [
    lora(BANK, 0, E * N),
    [0, 1, 2].flatMap((e) => lora(`model.layers.0.mlp.experts.${e}.gate_up_proj`, e * N, N)),
  ];
  for (const form of forms) {
    writeModel(path, form);
    const merge = { paths: [path], scale: 1, dampen: true, strict: true };
    const { out } = await convert(tensors, { merge });
    assert.ok(relativeError(decoded(out, 256), wanted) < 0.01);
  }
});

Deno.test("prepare() says how much of a model the 3-D tensors are that stay", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(path, [
    bf16("model.layers.0.self_attn.q_proj.weight", [N, K], 1),
    bf16("model.layers.0.experts.gate_up_proj", [8, N, K], 2),
  ]);
  const { notes, plan } = prepare(path, DEFAULT_CONVERT_OPTIONS);
  assert.match(notes.join(), /1 3-D tensor is kept, 89% of the model: stock ComfyUI reads such/);
  assert.equal(plan.totals.quantize, 1);
});

Deno.test("verifyModel() rejects codes in a 3-D tensor that the family reads raw", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER, 1);
  const path = join(folder.path, "m.safetensors");
  const layer = "model.layers.0.mlp.mixers";
  writeModel(path, [
    ...GPT_OSS(),
    tensorOf(`${layer}.weight`, "I8", [E, N, K], new Int8Array(E * N * K)),
    tensorOf(`${layer}.weight_scale`, "F32", [E, N, 1], new Float32Array(E * N).fill(1)),
    tensorOf(
      `${layer}.comfy_quant`,
      "U8",
      [29],
      new TextEncoder().encode('{"format": "int8_tensorwise"}'),
    ),
  ]);
  const report = await verifyModel(openModel(path), pool);
  assert.deepEqual([report.loads, report.problems[0]?.rule], [false, "bank-read-raw"]);
});
