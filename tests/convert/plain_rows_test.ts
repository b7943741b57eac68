import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { overallOutput } from "../../src/convert/output_errors.ts";
import { plainRows } from "../../src/convert/plain_rows.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { randomValues, WORKER_URL } from "../support/encode.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const ROWS = 320, COLS = 256, TOKENS = 96;

/** Inputs with a mean, and weights with a few rows along it, which make most of the outputs. */
function writeFiles(folder: string): { readonly model: string; readonly data: string } {
  const mean = randomValues(COLS, 3), at = (name: string) => join(folder, name);
  const weights = randomValues(ROWS * COLS, 1), inputs = randomValues(TOKENS * COLS, 2);
  for (let i = 0; i < inputs.length; i++) inputs[i] = inputs[i]! + 2 * mean[i % COLS]!;
  for (const row of [37, 99, 211]) {
    for (let k = 0; k < COLS; k++) weights[row * COLS + k] = mean[k]!;
  }
  writeModel(at("model.safetensors"), [tensorOf("a.weight", "F32", [ROWS, COLS], weights)]);
  writeModel(at("data.safetensors"), [tensorOf("a.activations", "F32", [TOKENS, COLS], inputs)]);
  return { model: at("model.safetensors"), data: at("data.safetensors") };
}

Deno.test("plainRows() estimates the output errors of plain rows and of the default, also if few rows make the outputs", async () => {
  using folder = temporaryFolder();
  const { model, data } = writeFiles(folder.path);
  const base: ConvertOptions = {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    calibrationPath: data,
    calibrationHoldout: 0.5,
  };
  const convert = (options: Partial<ConvertOptions>): Promise<ConvertResult> =>
    convertModel({
      input: model,
      output: join(folder.path, "out.safetensors"),
      force: true,
      options: { ...base, ...options },
      workerUrl: WORKER_URL,
      workers: 1,
      measure: true,
    });
  const { layers } = await convert({});
  const found = plainRows(openModel(model), layers, base)!;
  const measured = async (options: Partial<ConvertOptions>) =>
    overallOutput((await convert({ method: "simple", ...options })).layers)!.w8a8!;
  const near = (got: number | null, want: number) =>
    assert.ok(Math.abs(got! / want - 1) < 0.12, `${got} for ${want}`);
  near(found.w8a8, await measured({ scaling: "row", convrot: "off", scaleSearch: "off" }));
  near(found.defaultW8a8, await measured({ scaleSearch: "mse" }));
});

Deno.test("plainRows() takes outputs from all of a layer and from all of its inputs", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const weights = randomValues(ROWS * COLS, 1), inputs = randomValues(TOKENS * COLS, 2);
  // Rounding is off by far more where a row has one large value: in all but the first rows of both.
  for (let row = ROWS / 4; row < ROWS; row++) weights[row * COLS] = 24;
  for (let token = TOKENS / 2; token < TOKENS; token++) inputs[token * COLS + 1] = 96;
  writeModel(at("m.safetensors"), [tensorOf("a.weight", "F32", [ROWS, COLS], weights)]);
  writeModel(at("d.safetensors"), [tensorOf("a.activations", "F32", [TOKENS, COLS], inputs)]);
  const options: ConvertOptions = {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    calibrationPath: at("d.safetensors"),
    calibrationHoldout: 0,
    method: "simple",
    scaling: "row",
    convrot: "off",
    scaleSearch: "off",
  };
  const { layers } = await convertModel({
    input: at("m.safetensors"),
    output: at("out.safetensors"),
    options,
    workerUrl: WORKER_URL,
    workers: 1,
    measure: true,
  });
  const got = plainRows(openModel(at("m.safetensors")), layers, options)!.w8a8!;
  const want = overallOutput(layers)!.w8a8!;
  assert.ok(Math.abs(got / want - 1) < 0.12, `${got} for ${want}`);
});

Deno.test("plainRows() sees all parts of a fused layer in a sample, and equals a conversion if it reads all rows", async () => {
  using folder = temporaryFolder();
  const rows = 400, cols = 256, path = join(folder.path, "fused.safetensors");
  const weights = randomValues(rows * cols, 5);
  // One value of each row is large, by another factor in each quarter.
  for (let row = 0; row < rows; row++) weights[row * cols] = 4 ** Math.floor((4 * row) / rows);
  writeModel(path, [tensorOf("qkvm.weight", "F32", [rows, cols], weights)]);
  const options: ConvertOptions = {
    ...DEFAULT_CONVERT_OPTIONS,
    preset: { kind: "none" },
    method: "simple",
    scaling: "row",
    convrot: "off",
  };
  const { layers } = await convertModel({
    input: path,
    output: join(folder.path, "out.safetensors"),
    options,
    workerUrl: WORKER_URL,
    workers: 1,
    measure: true,
  });
  const whole = layers[0]!.errors.relativeError!;
  const all = plainRows(openModel(path), layers, options)!;
  assert.equal(all.sampledRows, rows);
  assert.ok(Math.abs(all.relativeError / whole - 1) < 1e-6, `${all.relativeError} for ${whole}`);
  const some = plainRows(openModel(path), layers, options, { sampledElements: 40 * cols })!;
  assert.equal(some.sampledRows, 40);
  assert.ok(Math.abs(some.relativeError / whole - 1) < 0.05, `${some.relativeError} for ${whole}`);
});

Deno.test("plainRows() looks at fewer places of many layers, at another one in each", () => {
  using folder = temporaryFolder();
  const rows = 400, cols = 256, path = join(folder.path, "many.safetensors");
  const names = Array.from({ length: 8 }, (_, i) => `blocks.${i}.weight`);
  const weights = randomValues(rows * cols, 5);
  for (let row = 0; row < rows; row++) weights[row * cols] = 4 ** Math.floor((4 * row) / rows);
  writeModel(path, names.map((name) => tensorOf(name, "F32", [rows, cols], weights)));
  const layers = names.map((name) => ({ name, output: null }));
  const found = (mostPlaces: number | undefined) =>
    plainRows(openModel(path), layers, DEFAULT_CONVERT_OPTIONS, {
      sampledElements: 8 * 40 * cols,
      ...(mostPlaces === undefined ? {} : { mostPlaces }),
    })!;
  const many = found(undefined);
  assert.deepEqual(found(32), many);
  for (const places of [8, 17, 1]) {
    const few = found(places);
    assert.equal(few.sampledRows, 320);
    assert.ok(Math.abs(few.relativeError / many.relativeError - 1) < 0.05, `${places}`);
  }
});
