import assert from "node:assert/strict";
import { join } from "node:path";
import { bf16ToF32, f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { noteJson } from "../../src/cli/report_json.ts";
import { planJson, planLines } from "../../src/cli/plan_report.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { seededFloats } from "../lora/floats.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { rotateExplicitly } from "../support/rtn_oracle.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);
const [E, N, K, T] = [3, 64, 256, 96];
const BANK = "model.layers.0.mlp.experts.gate_up_proj";

const bf16 = (name: string, shape: number[], seed: number): Tensor => {
  const count = shape.reduce((product, size) => product * size, 1);
  return tensorOf(name, "BF16", shape, Uint16Array.from(seededFloats(count, seed), f32ToBf16));
};

const MODEL = [
  bf16(`${BANK}.weight`, [E, N, K], 1),
  bf16(`${BANK}.bias`, [E, N], 5),
  bf16("model.layers.0.mlp.router.weight", [32, K], 2),
  bf16("model.layers.0.self_attn.q_proj.weight", [N, K], 3),
  bf16("model.layers.0.self_attn.sinks", [8], 4),
];

/** Inputs of an expert: four channels of its own are large, and the mean of its inputs is not zero. */
const inputs = (expert: number, rows = T) =>
  seededFloats(rows * K, 10 + expert).map((x, i) => {
    const channel = i % K;
    return (x + 0.5) * (channel >> 4 === expert ? 20 : 1);
  });

async function convert(
  folder: string,
  data: readonly Tensor[] | null,
  options: Partial<ConvertOptions> = {},
): Promise<{ out: Map<string, Tensor>; result: ConvertResult; notes: string }> {
  const input = join(folder, "in.safetensors"), output = join(folder, "out.safetensors");
  const calibrationPath = data === null ? null : join(folder, "data.safetensors");
  writeModel(input, MODEL);
  if (calibrationPath !== null) writeModel(calibrationPath, data!);
  let notes: readonly string[] = [];
  const result = await convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, calibrationPath, ...options },
    workerUrl: WORKER,
    workers: 2,
    force: true,
    measure: true,
    onPlan: (start) => notes = start.notes,
  });
  return { out: readModel(output), result, notes: notes.join("\n") };
}

const one = (expert: number, name = `${BANK}.${expert}`) =>
  tensorOf(`${name}.activations`, "F32", [T, K], inputs(expert));

/** Squared error of the outputs of one expert for inputs that nothing was fitted to. */
function outputError(out: ReadonlyMap<string, Tensor>, expert: number): number {
  const codes = new Int8Array(out.get(`${BANK}.weight`)!.data.slice().buffer);
  const scales = new Float32Array(out.get(`${BANK}.weight_scale`)!.data.slice().buffer);
  const stored = Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / K)]!);
  const values = rotateExplicitly(stored, { rows: E * N, cols: K, g: 256 });
  const source = new Uint16Array(MODEL[0]!.data.slice().buffer);
  const rows = seededFloats(32 * K, 99).map((x, i) =>
    (x + 0.5) * ((i % K) >> 4 === expert ? 20 : 1)
  );
  let sum = 0;
  for (let n = expert * N; n < (expert + 1) * N; n++) {
    for (let t = 0; t < 32; t++) {
      let y = 0;
      for (let k = 0; k < K; k++) {
        y += (values[n * K + k]! - bf16ToF32(source[n * K + k]!)) * rows[t * K + k]!;
      }
      sum += y * y;
    }
  }
  return sum;
}

const codesOf = (out: ReadonlyMap<string, Tensor>, expert: number) =>
  out.get(`${BANK}.weight`)!.data.slice(expert * N * K, (expert + 1) * N * K);

Deno.test("convertModel() calibrates each expert of a bank by its own data, the others not at all", async () => {
  using folder = temporaryFolder();
  const plain = await convert(folder.path, null);
  const { out, result, notes } = await convert(folder.path, [one(0), one(2)]);
  for (const expert of [0, 2]) {
    assert.ok(outputError(out, expert) < 0.7 * outputError(plain.out, expert), String(expert));
  }
  assert.deepEqual(codesOf(out, 1), codesOf(plain.out, 1));
  const layer = result.layers.find(({ name }) => name === `${BANK}.weight`)!;
  assert.deepEqual(layer.shape, [E * N, K]);
  assert.equal(layer.note?.kind === "compensated" && layer.note.experts?.compensated, 2);
  assert.equal(layer.compensated?.all, 2 * N);
  // Experts without data are not measured.
  assert.deepEqual([layer.output?.on, layer.output?.rows], ["held-out rows", 2 * T / 8]);
  assert.match(
    notes,
    /2 of 3 experts in 1 bank have calibration data of their own; /,
  );
  const report = JSON.stringify(result.layers.map(noteJson));
  assert.match(report, /"experts":3,"experts_compensated":2/);
});

Deno.test("convertModel() gives an expert the codes of its data alone, in whatever way the file names it", async () => {
  using folder = temporaryFolder();
  const named = await convert(folder.path, [one(0), one(1), one(2)]);
  const inside = [0, 1, 2].map((e) => one(e, `model.layers.0.mlp.experts.${e}.gate_up_proj`));
  const stacked = Float32Array.from([0, 1, 2].flatMap((expert) => [...inputs(expert)]));
  const forms = [inside, [tensorOf(`${BANK}.activations`, "F32", [E, T, K], stacked)]];
  for (const form of forms) {
    const { out } = await convert(folder.path, form);
    assert.deepEqual(out, named.out);
  }
  // The bank's own data stands for the expert that has none.
  const pooled = await convert(folder.path, [
    tensorOf(`${BANK}.activations`, "F32", [T, K], inputs(1)),
    one(0),
    one(2),
  ]);
  assert.deepEqual(codesOf(pooled.out, 1), codesOf(named.out, 1));
  assert.deepEqual(codesOf(pooled.out, 0), codesOf(named.out, 0));
});

Deno.test("convertModel() corrects the bias of each expert by the mean of its own inputs", async () => {
  using folder = temporaryFolder();
  const { out, result } = await convert(folder.path, [one(2)]);
  const [before, after] = [MODEL[1]!.data, out.get(`${BANK}.bias`)!.data];
  assert.deepEqual(after.slice(0, 4 * N), before.slice(0, 4 * N));
  assert.notDeepEqual(after.slice(4 * N), before.slice(4 * N));
  const layer = result.layers.find(({ name }) => name === `${BANK}.weight`)!;
  assert.equal(layer.bias?.name, `${BANK}.bias`);
});

Deno.test("convertModel() writes the same bytes of a bank for any number of workers", async () => {
  using folder = temporaryFolder();
  const data = [one(0), one(2)];
  const { out } = await convert(folder.path, data);
  const input = join(folder.path, "in.safetensors"), output = join(folder.path, "one.safetensors");
  await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      calibrationPath: join(folder.path, "data.safetensors"),
    },
    workerUrl: WORKER,
    workers: 1,
  });
  assert.deepEqual(readModel(output), out);
});

Deno.test("prepare() refuses experts that a bank does not have, and data of another width", () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, MODEL);
  const plan = (data: readonly Tensor[]) => {
    const calibrationPath = join(folder.path, "data.safetensors");
    writeModel(calibrationPath, data);
    return prepare(input, { ...DEFAULT_CONVERT_OPTIONS, calibrationPath });
  };
  assert.throws(() => plan([one(3)]), /expert 3 of ".*gate_up_proj", which has 3/);
  assert.throws(
    () => plan([tensorOf(`${BANK}.1.channel_max`, "F32", [K / 2], new Float32Array(K / 2))]),
    /channel_max of ".*gate_up_proj\.1" has 128 channels, its weight has 256 columns/,
  );
  assert.throws(
    () => plan([one(1), one(1, "model.layers.0.mlp.experts.1.gate_up_proj")]),
    /one expert twice/,
  );
  const prepared = plan([one(1)]);
  assert.match(planLines(prepared.plan).join("\n"), /1 of them expert banks with 3 experts in all/);
  assert.deepEqual((planJson(prepared.plan) as { totals: object }).totals, {
    quantize: 2,
    keep: 3,
    cast: 0,
    remove: 0,
    input_bytes: prepared.plan.totals.inputBytes,
    output_bytes: prepared.plan.totals.outputBytes,
    banks: 1,
    experts: 3,
  });
});
