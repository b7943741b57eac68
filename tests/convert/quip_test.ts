import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { resolveOptions } from "../../src/plan/resolve_options.ts";
import { convertWeight } from "../../src/library/convert_weight.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { activations, COLS, outputError, ROWS, TOKENS, weights } from "../support/outlier_layer.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";
import { verifyAgainstSource } from "../../src/verify/verify_source.ts";
import { WORKER_URL } from "../support/encode.ts";

const QUIP = DEFAULT_CONVERT_OPTIONS.quip;
/** Codes in original space, which is not what is done by default. */
const ORIGINAL = { ...QUIP, requantScheme: "tensor" } as const;
const NAME = "blocks.0.lin.weight";

/** Calls `body` with what converts the layer, or the one given, to a new file, and a calibration file. */
async function withLayer(
  body: (
    run: (options: Partial<ConvertOptions>, workers?: number) => Promise<string>,
    calibrationPath: string,
  ) => Promise<void>,
  layer = { rows: ROWS, cols: COLS, weight: weights() },
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const calibrationPath = join(folder.path, "calibration.safetensors");
  writeModel(input, [tensorOf(NAME, "F32", [layer.rows, layer.cols], layer.weight)]);
  writeModel(calibrationPath, [
    tensorOf("blocks.0.lin.activations", "F32", [TOKENS, COLS], activations(TOKENS, 1)),
  ]);
  let count = 0;
  await body(async (options, workers = 2) => {
    const output = join(folder.path, `${count++}.safetensors`);
    const all = {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      method: "quip",
      quip: ORIGINAL,
    } as const;
    await convertModel({
      input,
      output,
      options: { ...all, ...options },
      workerUrl: WORKER_URL,
      workers,
    });
    return output;
  }, calibrationPath);
}

/** As an assertion of equality, the difference of two files would take minutes to print. */
function equalBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

/** The weight that the file stands for. */
async function restored(path: string): Promise<Float32Array> {
  using pool = new WorkerPool(WORKER_URL, 1);
  const output = `${path}.float`;
  await dequantizeModel(openModel(path), { output, dtype: "F32", pool });
  return new Float32Array(readModel(output).get(NAME)!.data.slice().buffer);
}

function squaredErrors(w: Float32Array, other: Float32Array, cols = w.length): number[] {
  const errors = Array<number>(w.length / cols).fill(0);
  w.forEach((x, i) => errors[Math.floor(i / cols)]! += (x - other[i]!) ** 2);
  return errors;
}

Deno.test("quip in original space loses to row rounding to nearest in no row, and gains in outputs", async () => {
  await withLayer(async (run, calibrationPath) => {
    const plain = await run({ method: "simple", scaling: "row" });
    const quip = await run({ calibrationPath });
    const before = squaredErrors(weights(), await restored(plain), COLS);
    const after = squaredErrors(weights(), await restored(quip), COLS);
    after.forEach((error, row) => assert(error <= before[row]! * (1 + 1e-6), `row ${row}`));
    const held = activations(64, 2);
    const ratio = outputError(quip, weights(), held) / outputError(plain, weights(), held);
    assert(ratio < 1, `output error ${ratio} of that of rounding to nearest`);
  });
});

Deno.test("quip without data is the best rounding to nearest in original space", async () => {
  await withLayer(async (run) => {
    const nearest = await run({ method: "auto", scaling: "row" });
    assert(equalBytes(bytesOfFile(await run({})), bytesOfFile(nearest)));
  });
});

Deno.test("quip rotates rows if nothing else is asked for, as every method does", async () => {
  await withLayer(async (run, calibrationPath) => {
    const quip = readModel(await run({ quip: QUIP, calibrationPath }));
    const marker = new TextDecoder().decode(quip.get("blocks.0.lin.comfy_quant")!.data);
    assert.match(marker, /"convrot": true/);
    const asked = readModel(await run({ convrot: "auto", calibrationPath }));
    assert(equalBytes(quip.get(NAME)!.data, asked.get(NAME)!.data));
  });
});

Deno.test("quip with a scale per row and columns stores them in 3-D, and compensates on that grid", async () => {
  await withLayer(async (run, calibrationPath) => {
    const quip = { ...QUIP, requantScheme: "block" } as const;
    const plain = await run({ quip, blockSize: 64 });
    const compensated = await run({ quip, blockSize: 64, calibrationPath });
    const model = readModel(plain);
    assert.deepEqual(model.get("blocks.0.lin.weight_scale")!.shape, [ROWS, COLS / 64, 1]);
    const marker = new TextDecoder().decode(model.get("blocks.0.lin.comfy_quant")!.data);
    assert.equal(marker, '{"format": "int8_blockwise", "group_size": 64}');
    const held = activations(64, 2);
    const before = outputError(plain, weights(), held);
    const after = outputError(compensated, weights(), held);
    assert(after < 0.7 * before, `${after} against ${before}`);
  });
});

Deno.test("quip with one scale for all is written so", async () => {
  await withLayer(async (run) => {
    const path = await run({ quip: { ...QUIP, perRow: false } });
    assert.deepEqual(readModel(path).get("blocks.0.lin.weight_scale")!.shape, []);
  });
});

const TRANSFORMED = { ...QUIP, storeTransformed: true } as const;

Deno.test("quip stored transformed has the documented layout", async () => {
  await withLayer(async (run) => {
    const path = await run({ quip: TRANSFORMED });
    const model = readModel(path);
    const part = (name: string) => model.get(`blocks.0.lin.${name}`)!;
    assert.deepEqual([part("weight").dtype, part("weight").shape], ["I8", [ROWS, COLS]]);
    assert.deepEqual(part("weight_scale").shape, [ROWS, 1]);
    const int = (name: string) => new Int32Array(part(name).data.slice().buffer)[0];
    assert.deepEqual([int("hadamard_size_out"), int("hadamard_size_in")], [ROWS, COLS]);
    assert.deepEqual([part("sign_row").shape, part("sign_col").shape], [[ROWS], [COLS]]);
    assert.deepEqual([...part("hadamard_quip").data], [1]);
  });
});

Deno.test("quip stored transformed for ctq is read back, and measured, as what it is", async () => {
  await withLayer(async (run, calibrationPath) => {
    const options = { quip: TRANSFORMED, target: "ctq", scaling: "row" } as const;
    const output = await run({ ...options, calibrationPath });
    const { data } = readModel(output).get("blocks.0.lin.comfy_quant")!;
    assert.equal(JSON.parse(new TextDecoder().decode(data)).format, "int8_axiswise");
    const stock = await run({ quip: TRANSFORMED, calibrationPath });
    assert.deepEqual(await restored(output), await restored(stock));
  });
});

Deno.test("quip stored transformed is more than 1 dB nearer than a rotated row", async () => {
  const layer = syntheticLayer({ rows: 300, cols: COLS, seed: 5 });
  await withLayer(async (run) => {
    const error = async (options: Partial<ConvertOptions>) =>
      squaredErrors(layer.weight, await restored(await run(options)))[0]!;
    const ratio = await error({ quip: TRANSFORMED }) /
      await error({ method: "simple", convrot: "auto" });
    assert(ratio < 10 ** -0.1, `squared error ${ratio} of that of a rotated row`);
  }, layer);
});

Deno.test("quip stored transformed reports the errors that its file has, also padded, with and without data", async () => {
  using folder = temporaryFolder();
  const shapes: readonly (readonly [number, number])[] = [[ROWS, COLS], [100, 200], [1, 37], [
    37,
    1,
  ]];
  for (const [rows, cols] of shapes) {
    const weight = weights().subarray(0, rows * cols);
    const input = join(folder.path, "in.safetensors"),
      output = join(folder.path, "out.safetensors");
    writeModel(input, [tensorOf(NAME, "F32", [rows, cols], weight)]);
    const calibrationPath = cols === COLS ? join(folder.path, "c.safetensors") : null;
    if (calibrationPath !== null) {
      writeModel(calibrationPath, [
        tensorOf("blocks.0.lin.activations", "F32", [TOKENS, COLS], activations(TOKENS, 1)),
      ]);
    }
    const { layers } = await convertModel({
      input,
      output,
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        method: "quip",
        quip: TRANSFORMED,
        calibrationPath,
      },
      force: true,
      workerUrl: WORKER_URL,
      workers: 3,
    });
    using pool = new WorkerPool(WORKER_URL, 1);
    const back = join(folder.path, "back.safetensors");
    await dequantizeModel(openModel(output), { output: back, dtype: "F32", pool, force: true });
    const tensor = readModel(back).get(NAME)!;
    assert.deepEqual(tensor.shape, [rows, cols]);
    const got = new Float32Array(tensor.data.slice().buffer);
    const error = Math.sqrt(squaredErrors(weight, got)[0]!);
    const told = layers[0]!.errors.relativeError * Math.hypot(...weight);
    const rounding = 1e-6 * Math.hypot(...weight);
    assert(
      Math.abs(told - error) < 1e-3 * error + rounding,
      `[${rows}, ${cols}]: reported ${told}, is ${error}`,
    );
  }
});

Deno.test("conversion, verify and dequantize report the same of quip stored transformed: padded, signs and all", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  // Few weights: in many, which of them have which errors makes no difference to the cosine. That is
  // so near to 1 that f32 leaves some percent of the difference open.
  const sources = Array.from({ length: 8 }, (_, seed) => {
    const [rows, cols] = seed < 6 ? [3, 5] : [20, 37];
    return { name: `blocks.${seed}.lin.weight`, ...syntheticLayer({ rows, cols, seed }) };
  });
  writeModel(
    at("in"),
    sources.map(({ name, rows, cols, weight }) => tensorOf(name, "F32", [rows, cols], weight)),
  );
  const { layers } = await convertModel({
    input: at("in"),
    output: at("out"),
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      method: "quip",
      quip: TRANSFORMED,
    },
    workerUrl: WORKER_URL,
    workers: 2,
  });
  await dequantizeModel(openModel(at("out")), { output: at("back"), dtype: "F32", pool });
  const report = await verifyAgainstSource(openModel(at("out")), openModel(at("in")), { pool });
  assert.deepEqual([report.matches, report.problems], [true, []]);
  const back = readModel(at("back"));
  for (const { name, weight, rows, cols } of sources) {
    const { shape, data } = back.get(name)!;
    assert.deepEqual(shape, [rows, cols]);
    const got = new Float32Array(data.slice().buffer);
    const dot = weight.reduce((sum, w, i) => sum + w * got[i]!, 0);
    const angle = 1 - dot / (Math.hypot(...weight) * Math.hypot(...got));
    const error = Math.sqrt(squaredErrors(weight, got)[0]!) / Math.hypot(...weight);
    assert(error > 1e-3 && error < 0.05, `${name}: ${error}`);
    for (const all of [layers, report.layers]) {
      const told = all.find((layer) => layer.name === name)!.errors;
      assert(Math.abs(told.relativeError / error - 1) < 1e-3, `${name}: ${told.relativeError}`);
      assert(Math.abs((1 - told.cosine) / angle - 1) < 0.09, `${name}: ${1 - told.cosine}`);
    }
  }
});

Deno.test("quip stored transformed distinguishes errors from their opposites, along rows and columns", () => {
  const differing = { row: 0, col: 0 };
  for (let seed = 0; seed < 40; seed++) {
    const side = seed % 2 === 0 ? "row" : "col", [rows, cols] = side === "row" ? [3, 1] : [1, 3];
    const { weight } = syntheticLayer({ rows, cols, seed });
    // The least scale there is leaves these few codes: small errors and their opposites have one cosine.
    // Of four values so small the sums of errors, which are in f32, would be zero.
    const data = weight.map((w) => 3e-29 * w);
    const options = resolveOptions({ method: "quip", scaleSearch: "off", quip: TRANSFORMED });
    const { dequantized, errors } = convertWeight(
      { data, rows, cols, name: `${seed}` },
      {},
      options,
    );
    const cosineOf = (x: Float64Array) =>
      data.reduce((sum, w, i) => sum + w * x[i]!, 0) / (Math.hypot(...data) * Math.hypot(...x));
    const cosine = cosineOf(Float64Array.from(dequantized));
    const opposite = cosineOf(Float64Array.from(data, (w, i) => 2 * w - dequantized[i]!));
    if (Math.abs(cosine - opposite) > 1e-5) differing[side]++;
    assert(Math.abs(errors.cosine - cosine) < 1e-6, `${seed}: ${errors.cosine} is ${cosine}`);
  }
  assert(differing.row > 3 && differing.col > 3, JSON.stringify(differing));
});

Deno.test("quip stored transformed gives the same bytes for any number of workers, others for another seed", async () => {
  await withLayer(async (run, calibrationPath) => {
    const one = bytesOfFile(await run({ quip: TRANSFORMED, calibrationPath }, 1));
    assert.deepEqual(bytesOfFile(await run({ quip: TRANSFORMED, calibrationPath }, 3)), one);
    const other = await run({ quip: { ...TRANSFORMED, seed: 1 }, calibrationPath });
    assert.notDeepEqual(bytesOfFile(other), one);
  });
});

Deno.test("segments of columns are compensated by themselves", async () => {
  await withLayer(async (run, calibrationPath) => {
    const held = activations(64, 2), options = { method: "gptq", scaling: "row" } as const;
    const error = async (more: Partial<ConvertOptions>) =>
      outputError(await run({ ...options, ...more }), weights(), held);
    const plain = await error({});
    const whole = await error({ calibrationPath });
    const cut = await error({ calibrationPath, segments: { threshold: COLS, count: 4 } });
    const uncut = await error({ calibrationPath, segments: { threshold: COLS + 1, count: 4 } });
    assert.equal(uncut, whole);
    assert.notEqual(cut, whole);
    assert(cut < 0.9 * plain, `${cut} against ${plain}`);
  });
});
