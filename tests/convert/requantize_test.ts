import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import type { DType } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { planMigration } from "../../src/edit/plan_migration.ts";
import { writeEdited } from "../../src/edit/write_edited.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { verifyAgainstSource } from "../../src/verify/verify_source.ts";
import { markerTensor, randomValues, WORKER_URL } from "../support/encode.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { f32, float8Blocks, floats } from "../formats/stored_layers.ts";

/** A folder, the workers, and what is done with files in it. */
class Files implements Disposable {
  readonly #folder = temporaryFolder();
  readonly pool = new WorkerPool(WORKER_URL, 1);

  at(name: string): string {
    return join(this.#folder.path, `${name}.safetensors`);
  }

  async convert(from: string, to: string, options: Partial<ConvertOptions>): Promise<void> {
    await convertModel({
      input: this.at(from),
      output: this.at(to),
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
      workerUrl: WORKER_URL,
      workers: 1,
    });
  }

  /** The weight `a.b` of a file as F32, with its shape. */
  async values(name: string, source?: string): Promise<{ values: Float32Array; shape: number[] }> {
    const output = this.at(`${name}_values_${source}`);
    await dequantizeModel(openModel(this.at(name)), {
      output,
      dtype: "F32",
      pool: this.pool,
      shapesOf: source === undefined ? undefined : openModel(this.at(source)),
    });
    const weight = readModel(output).get("a.b.weight")!;
    return { values: f32(weight), shape: [...weight.shape] };
  }

  [Symbol.dispose](): void {
    this.pool[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

function relativeError(found: Float32Array, wanted: Float32Array): number {
  assert.equal(found.length, wanted.length);
  const energy = (x: Float32Array) => x.reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt(energy(found.map((value, i) => value - wanted[i]!)) / energy(wanted));
}

const { cases } = JSON.parse(
  readFileSync(new URL("../vectors/formats.json", import.meta.url), "utf8"),
) as {
  cases: {
    name: string;
    marker: Record<string, unknown>;
    tensors: Record<string, { dtype: DType; shape: number[]; data: string }>;
  }[];
};

/** Quantized layers `a.b` of formats that are not rounded to INT8. */
const LAYERS: Record<string, Tensor[]> = Object.fromEntries(
  cases.map(({ name, marker, tensors }) => [name, [
    ...Object.entries(tensors).map(([part, { data, ...info }]) => ({
      ...info,
      name: `a.b.${part}`,
      data: Uint8Array.from(atob(data), (char) => char.charCodeAt(0)),
    })),
    markerTensor("a.b", marker),
  ]]),
);
const blocks = float8Blocks(randomValues(192 * 160), {
  rows: 192,
  cols: 160,
  blockRows: 128,
  blockCols: 128,
});
LAYERS["FP8 in blocks"] = [
  tensorOf("a.b.weight", "F8_E4M3", [192, 160], blocks.codes),
  floats("a.b.weight_scale_inv", [2, 2], blocks.scales),
];

/** Ways to round once more; each cuts weights in another way. */
const MODES: readonly (readonly [string, Partial<ConvertOptions>])[] = [
  ["rows, rotated", {}],
  ["one scale", { scaling: "tensor" }],
  ["blocks", { scaling: "block", blockSize: 16, target: "ctq" }],
];

for (const [name, tensors] of Object.entries(LAYERS)) {
  Deno.test(`convertModel() rounds the true values once more: ${name}`, async () => {
    using files = new Files();
    writeModel(files.at("source"), tensors);
    const { values, shape } = await files.values("source");
    for (const [mode, options] of MODES) {
      await files.convert("source", mode, { ...options, requantize: true });
      const after = await files.values(mode);
      assert.deepEqual(after.shape, shape);
      const error = relativeError(after.values, values);
      assert(error > 0 && error < 0.03, `${mode}: ${error}`);
      const report = await verifyAgainstSource(
        openModel(files.at(mode)),
        openModel(files.at("source")),
        { pool: files.pool },
      );
      assert(report.matches, JSON.stringify(report.problems));
      assert(Math.abs(report.layers[0]!.errors.relativeError - error) < 1e-4);
    }
  });
}

Deno.test("convertModel() compensates and learns from every stored format", async () => {
  for (const tensors of Object.values(LAYERS)) {
    using files = new Files();
    writeModel(files.at("source"), tensors);
    const { values, shape } = await files.values("source");
    await compensate(files, { values, shape });
  }
  using files = new Files();
  await transformed(files, [48, 64], true);
  await compensate(files, await files.values("bare"), "bare");
});

/** Rounds a layer once more with calibration data, in every method. */
async function compensate(
  files: Files,
  { values, shape }: { values: Float32Array; shape: number[] },
  source = "source",
): Promise<void> {
  const cols = shape[1]!;
  writeModel(files.at("calibration"), [
    floats("a.b.activations", [64, cols], randomValues(64 * cols, 5)),
  ]);
  const calibrationPath = files.at("calibration");
  const methods: Partial<ConvertOptions>[] = [
    { method: "gptq" },
    { method: "gptq", scaling: "tensor" },
    { method: "quip" },
    { method: "quip", quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true } },
    { method: "original", learned: { ...DEFAULT_CONVERT_OPTIONS.learned, iterations: 5 } },
  ];
  for (const [index, options] of methods.entries()) {
    await files.convert(source, `method${index}`, {
      ...options,
      requantize: true,
      calibrationPath,
    });
    const after = await files.values(`method${index}`);
    assert.deepEqual(after.shape, shape);
    const error = relativeError(after.values, values);
    assert(error > 0 && error < 0.05, `${JSON.stringify(options)}: ${error}`);
  }
}

/** A weight stored transformed, without what says its size before. */
async function transformed(files: Files, [rows, cols]: [number, number], bias: boolean) {
  const values = randomValues(rows * cols, 7);
  writeModel(files.at("float"), [floats("a.b.weight", [rows, cols], values)]);
  await files.convert("float", "whole", {
    method: "quip",
    quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true },
  });
  const tensors = [...readModel(files.at("whole")).values()]
    .map((tensor) =>
      tensor.name === "a.b.comfy_quant"
        ? markerTensor("a.b", { format: "int8_tensorwise" })
        : tensor
    );
  const extra = bias ? [tensorOf("a.b.bias", "BF16", [rows], new Uint16Array(rows))] : [];
  writeModel(files.at("bare"), [...tensors, ...extra]);
  return values;
}

Deno.test("dequantizeModel() takes rows before padding from the bias, columns from the values", async () => {
  for (const size of [[48, 64], [64, 40], [33, 24]] as [number, number][]) {
    using files = new Files();
    const values = await transformed(files, size, true);
    const { values: found, shape } = await files.values("bare");
    assert.deepEqual(shape, size);
    assert(relativeError(found, values) < 0.02);
    await files.convert("bare", "again", { requantize: true, convrot: "off" });
    const again = await files.values("again");
    assert.deepEqual(again.shape, size);
    assert(relativeError(again.values, found) < 0.02);
  }
});

Deno.test("dequantizeModel() refuses padded rows that nothing says, and takes another file's shape", async () => {
  using files = new Files();
  const values = await transformed(files, [48, 64], false);
  await assert.rejects(files.values("bare"), /"a\.b\.weight".*padded to \[64, 64\].*--source/s);
  await assert.rejects(files.convert("bare", "none", { requantize: true }), /padded to \[64, 64\]/);
  const { values: found, shape } = await files.values("bare", "float");
  assert.deepEqual(shape, [48, 64]);
  assert(relativeError(found, values) < 0.02);
  await files.convert("bare", "like", {
    requantize: true,
    preset: { kind: "like", path: files.at("whole") },
  });
  assert.deepEqual((await files.values("like")).shape, [48, 64]);
});

Deno.test("planMigration() never marks scales that the loader cannot compute with", async () => {
  for (const marker of [[], [markerTensor("a.b", { format: "float8_e4m3fn" })]]) {
    using files = new Files();
    const scale = floats("a.b.weight_scale", [2, 2], blocks.scales);
    writeModel(files.at("source"), [LAYERS["FP8 in blocks"]![0]!, scale, ...marker]);
    const source = openModel(files.at("source"));
    using reader = new TensorReader(source);
    const plan = planMigration(source, (tensor) => reader.read(tensor));
    await writeEdited(plan.edited, {
      output: files.at("migrated"),
      pool: files.pool,
      matrixOf: ({ name }) => plan.requantized.get(name)!,
    });
    assert((await verifyModel(openModel(files.at("migrated")), files.pool)).loads);
    const { values } = await files.values("migrated");
    assert(relativeError(values, blocks.restored) < 0.02);
  }
});

Deno.test("--like takes which layers from a file in another format, and says so", async () => {
  using files = new Files();
  const values = randomValues(192 * 160);
  writeModel(files.at("float"), [
    floats("a.b.weight", [192, 160], values),
    floats("a.c.weight", [192, 160], values),
  ]);
  writeModel(files.at("template"), LAYERS["FP8 in blocks"]!);
  const notes: string[] = [];
  await convertModel({
    input: files.at("float"),
    output: files.at("out"),
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "like", path: files.at("template") },
    },
    workerUrl: WORKER_URL,
    workers: 1,
    onPlan: (start) => void notes.push(...start.notes),
  });
  const out = readModel(files.at("out"));
  assert.deepEqual([out.get("a.b.weight")!.dtype, out.get("a.c.weight")!.dtype], ["I8", "F32"]);
  const marker = JSON.parse(new TextDecoder().decode(out.get("a.b.comfy_quant")!.data));
  assert.deepEqual(marker, { format: "int8_tensorwise", convrot: true, convrot_groupsize: 16 });
  assert.match(notes.join("\n"), /1 layer of the --like file is stored as FP8 without marker/);
});
