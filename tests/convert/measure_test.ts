import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel, type ConvertResult } from "../../src/convert/convert.ts";
import { openCalibration } from "../../src/calibration/calibration.ts";
import { measureAgainstSource } from "../../src/verify/measure_against_source.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { worstFirst } from "../../src/convert/output_errors.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { layerErrors } from "../../src/run/layer_statistics.ts";
import { activations, COLS, outputError, ROWS, weights } from "../support/outlier_layer.ts";
import { f8e4m3ToF32 } from "../../src/core/dtype.ts";
import { rotateExplicitly } from "../support/rtn_oracle.ts";
import { WORKER_URL } from "../support/encode.ts";

const NAME = "blocks.0.lin.weight", BIAS_NAME = "blocks.0.lin.bias";
const BIAS = Float32Array.from({ length: ROWS }, (_, r) => Math.sin(r));

/** Inputs around a mean: `[count, COLS]`. */
function shifted(count: number, seed: number): Float32Array {
  return activations(count, seed).map((x, i) => x + Math.cos(i % COLS));
}

type Tensors = Parameters<typeof writeModel>[1];

interface Run {
  readonly result: ConvertResult;
  readonly path: string;
  readonly input: string;
}

/** Calls `body` with what converts the layer with `tensors` as its calibration data. */
async function withLayer(
  tensors: Tensors,
  body: (
    run: (options: Partial<ConvertOptions>, workers?: number) => Promise<Run>,
    calibrationPath: string,
  ) => Promise<void>,
  metadata?: Record<string, string>,
): Promise<void> {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const calibrationPath = join(folder.path, "calibration.safetensors");
  writeModel(input, [
    tensorOf(NAME, "F32", [ROWS, COLS], weights()),
    tensorOf(BIAS_NAME, "F32", [ROWS], BIAS),
  ]);
  writeModel(calibrationPath, tensors, ...(metadata === undefined ? [] : [metadata]));
  let count = 0;
  await body(async (options, workers = 2) => {
    const path = join(folder.path, `${count++}.safetensors`);
    const base = { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, calibrationPath } as const;
    const result = await convertModel({
      input,
      output: path,
      options: { ...base, ...options },
      workerUrl: WORKER_URL,
      workers,
      measure: true,
    });
    return { result, path, input };
  }, calibrationPath);
}

function rows(x: Float32Array, name = "activations") {
  return [tensorOf(`blocks.0.lin.${name}`, "F32", [x.length / COLS, COLS], x)];
}

function outputOf({ result }: Run) {
  const { output } = result.layers[0]!;
  assert.ok(output);
  return output;
}

function near(got: number | null, want: number, tolerance: number): void {
  assert.ok(got !== null && Math.abs(got / want - 1) < tolerance, `${got}, want ${want}`);
}

Deno.test("convertModel() measures the output error of the file on held-out rows, on every grid", async () => {
  const x = activations(96, 1);
  await withLayer(rows(x), async (run) => {
    for (const scaling of ["row", "block", "tensor"] as const) {
      const done = await run({
        scaling,
        blockSize: 64,
        method: "simple",
        calibrationHoldout: 0.25,
        biasCorrection: false,
      });
      const output = outputOf(done);
      assert.deepEqual([output.on, output.rows], ["held-out rows", 24]);
      near(output.w8a16, outputError(done.path, weights(), x.subarray(72 * COLS)), 1e-4);
      assert.ok(output.w8a8! > output.w8a16);
    }
  });
});

Deno.test("convertModel() measures W8A8 as the runtime computes it, by plain arithmetic", async () => {
  const x = activations(32, 1), w = weights();
  await withLayer(rows(x), async (run) => {
    const options = { method: "simple", biasCorrection: false, calibrationHoldout: 0 } as const;
    const done = await run({ scaling: "row", ...options });
    const model = readModel(done.path);
    const codes = new Int8Array(model.get(NAME)!.data.slice().buffer);
    const scales = new Float32Array(model.get("blocks.0.lin.weight_scale")!.data.slice().buffer);
    let error = 0, signal = 0;
    for (let t = 0; t < 32; t++) {
      const row = x.subarray(t * COLS, (t + 1) * COLS);
      const scale = Math.fround(Math.max(...row.map(Math.abs)) / 127);
      for (let r = 0; r < ROWS; r++) {
        let y = 0, sum = 0;
        for (let k = 0; k < COLS; k++) {
          y += row[k]! * w[r * COLS + k]!;
          sum += Math.round(row[k]! / scale) * codes[r * COLS + k]!;
        }
        error += (y - sum * scale * scales[r]!) ** 2;
        signal += y * y;
      }
    }
    near(outputOf(done).w8a8, Math.sqrt(error / signal), 1e-3);
  });
});

for (const output of ["w4a8", "w6a8"] as const) {
  Deno.test(`convertModel() measures W8A8 of ${output} as the runtime computes it`, async () => {
    const x = activations(32, 1), w = weights();
    await withLayer(rows(x), async (run) => {
      const done = await run({
        output,
        method: "simple",
        calibrationHoldout: 0,
        biasCorrection: false,
      });
      const model = readModel(done.path),
        part = (name: string) => model.get(`blocks.0.lin.${name}`)!;
      const packed = part("weight").data, relative = part("weight_s_rel").data;
      const channel = new Float32Array(part("weight_s_channel").data.slice().buffer);
      const table = output === "w6a8"
        ? Float32Array.from({ length: 64 }, (_, code) => code - 32)
        : new Float32Array(part("weight_codebook").data.slice().buffer);
      const stride = packed.length / ROWS;
      const integer = (r: number, k: number): number => {
        const nibble = packed[r * stride + (k >> 1)]! >> (4 * (k % 2)) & 15;
        const high = output === "w4a8"
          ? 0
          : packed[r * stride + COLS / 2 + (k >> 2)]! >> (2 * (k % 4)) & 3;
        const scale = f8e4m3ToF32(relative[r * COLS / 16 + (k >> 4)]!);
        const t = table[nibble + 16 * high]! * scale, low = Math.floor(t);
        const nearest = t - low === 0.5 ? low + Math.abs(low % 2) : Math.round(t);
        return Math.max(-127, Math.min(127, nearest));
      };
      const grid = { rows: 32, cols: COLS, g: 256 }, rotated = rotateExplicitly(x, grid);
      let error = 0, signal = 0;
      for (let t = 0; t < 32; t++) {
        const row = Float32Array.from(rotated.subarray(t * COLS, (t + 1) * COLS));
        const scale = Math.fround(Math.max(...row.map(Math.abs)) / 127);
        for (let r = 0; r < ROWS; r++) {
          let y = 0, sum = 0;
          for (let k = 0; k < COLS; k++) {
            y += x[t * COLS + k]! * w[r * COLS + k]!;
            sum += Math.round(row[k]! / scale) * integer(r, k);
          }
          error += (y - sum * scale * channel[r]!) ** 2;
          signal += y * y;
        }
      }
      near(outputOf(done).w8a8, Math.sqrt(error / signal), 1e-3);
    });
  });
}

Deno.test("convertModel() measures the same for any number of workers, and of transformed codes", async () => {
  const x = activations(80, 1);
  await withLayer(rows(x), async (run) => {
    const modes: Partial<ConvertOptions>[] = [
      {},
      {
        method: "quip",
        quip: { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true },
      },
    ];
    for (const mode of modes) {
      const [one, three] = [await run(mode, 1), await run(mode, 3)];
      assert.deepEqual(outputOf(one), outputOf(three));
      assert.deepEqual(bytesOfFile(one.path), bytesOfFile(three.path));
      const { w8a16, w8a8 } = outputOf(one);
      assert.ok(w8a16 < 0.01 && w8a8! < 0.02 && w8a8! > w8a16, `${w8a16}, ${w8a8}`);
    }
  });
});

Deno.test("convertModel() with a Hessian measures W8A16 as its inputs would, and no W8A8", async () => {
  const x = activations(400, 1);
  const hessian = new Float32Array(COLS * COLS);
  for (let t = 0; t < 400; t++) {
    for (let i = 0; i < COLS; i++) {
      for (let j = 0; j < COLS; j++) hessian[i * COLS + j]! += x[t * COLS + i]! * x[t * COLS + j]!;
    }
  }
  await withLayer(rows(hessian, "hessian"), async (run) => {
    const done = await run({ scaling: "row", method: "simple" });
    const output = outputOf(done);
    assert.deepEqual([output.on, output.rows, output.w8a8], ["hessian", null, null]);
    near(output.w8a16, outputError(done.path, weights(), x), 1e-3);
  });
});

Deno.test("convertModel() corrects biases by the mean of real inputs, which helps on held-out ones", async () => {
  await withLayer(rows(shifted(128, 1)), async (run) => {
    const mode = { scaling: "row", method: "simple" } as const;
    const corrected = await run(mode), plain = await run({ ...mode, biasCorrection: false });
    const { bias } = corrected.result.layers[0]!;
    assert.ok(bias !== null && bias.factor > 0.9 && bias.change > 0);
    assert.equal(plain.result.layers[0]!.bias, null);
    assert.ok(outputOf(corrected).w8a16 < 0.97 * outputOf(plain).w8a16);
    // The same from outside, on other inputs.
    const stored = (run: Run) =>
      new Float32Array(readModel(run.path).get(BIAS_NAME)!.data.slice().buffer);
    assert.deepEqual([...stored(plain)], [...BIAS]);
    using folder = temporaryFolder();
    const heldPath = join(folder.path, "held.safetensors");
    writeModel(heldPath, rows(shifted(128, 2)));
    using pool = new WorkerPool(WORKER_URL, 2);
    const measured = async ({ path, input }: Run) => {
      const found = await measureAgainstSource(openModel(path), openModel(input), {
        names: [NAME],
        calibration: openCalibration(heldPath),
        holdout: 0,
        pool,
      });
      return found.get(NAME)!;
    };
    const [after, before] = [await measured(corrected), await measured(plain)];
    assert.equal(after.on, "given rows");
    assert.ok(after.w8a16 < 0.97 * before.w8a16, `${after.w8a16}, ${before.w8a16}`);
    near(before.w8a16, outputError(plain.path, weights(), shifted(128, 2)), 1e-4);
  });
});

Deno.test("convertModel() leaves biases alone if inputs are synthetic, or their means magnitudes", async () => {
  const plain = { scaling: "row", method: "simple" } as const;
  const biasIn = ({ path }: Run) => [...readModel(path).get(BIAS_NAME)!.data];
  const before = [...new Uint8Array(BIAS.buffer)];
  await withLayer(rows(shifted(128, 1)), async (run) => {
    const done = await run(plain);
    assert.equal(done.result.layers[0]!.bias, null);
    assert.deepEqual(biasIn(done), before);
  }, { "quantsmith.statistics": "synthetic" });
  const mean = Float32Array.from({ length: COLS }, (_, k) => Math.cos(k));
  const vector = (values: Float32Array) => [
    tensorOf("blocks.0.lin.channel_mean", "F32", [COLS], values),
  ];
  await withLayer(vector(mean.map(Math.abs)), async (run) => {
    const done = await run(plain);
    assert.equal(done.result.layers[0]!.bias!.factor, 0);
    assert.deepEqual(biasIn(done), before);
  });
  await withLayer(vector(mean), async (run) => {
    assert.equal((await run(plain)).result.layers[0]!.bias!.factor, 1);
  });
});

Deno.test("convertModel() writes the input_scale of static activations as given, or of the inputs", async () => {
  const x = activations(16, 1);
  const scaleIn = ({ path }: Run) => {
    const tensor = readModel(path).get("blocks.0.lin.input_scale");
    return tensor === undefined ? null : new Float32Array(tensor.data.slice().buffer)[0]!;
  };
  const mode = { scaling: "row", method: "simple", staticActivations: true } as const;
  await withLayer(rows(x), async (run) => {
    assert.equal(scaleIn(await run(mode)), Math.fround(Math.max(...x.map(Math.abs)) / 127));
    assert.equal(scaleIn(await run({ ...mode, staticActivations: false })), null);
  });
  const given = tensorOf("blocks.0.lin.input_scale", "F32", [], Float32Array.of(0.25));
  await withLayer([...rows(x), given], async (run) => {
    assert.equal(scaleIn(await run(mode)), 0.25);
    assert.equal(scaleIn(await run({ ...mode, convrot: 16 })), 0.25);
  });
});

Deno.test("convertModel() refuses calibration data with a NaN or infinity, and leaves no output", async () => {
  for (const bad of [NaN, Infinity]) {
    const x = activations(16, 1);
    x[3 * COLS + 7] = bad;
    await withLayer(rows(x), async (run) => {
      for (const biasCorrection of [true, false]) {
        await assert.rejects(run({ scaling: "row", method: "simple", biasCorrection }), {
          message: new RegExp(`calibration\\.safetensors.*activations\\[3, 7\\] is ${bad}`),
        });
      }
    });
  }
});

Deno.test("openCalibration() reads all fields of a layer from JSON as from safetensors", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "c.json");
  writeFileSync(
    path,
    '{"a.b": {"channel_mean": [1, -2], "input_scale": 0.5, "activations": [[3, 4]]}}',
  );
  const { layers, fields, isSynthetic } = openCalibration(path);
  assert.equal(layers.get("a.b")!.statistic, "activations");
  const known = fields.get("a.b")!;
  assert.deepEqual(Object.keys(known).sort(), ["activations", "channel_mean", "input_scale"]);
  assert.deepEqual(known.input_scale!.data, {
    kind: "inline",
    values: Float32Array.of(0.5),
    path,
    tensor: "a.b.input_scale",
  });
  assert.equal(isSynthetic, false);
});

Deno.test("worstFirst() ranks by output error if there is one, then by weight error", () => {
  const layer = (name: string, relativeError: number, w8a16: number | null) => ({
    name,
    errors: layerErrors(Float64Array.of(relativeError ** 2, 1, 1, 1, relativeError, 1)),
    output: w8a16 === null
      ? null
      : { w8a16, w8a8: null, on: "hessian" as const, rows: null, signal: 1 },
  });
  const ranked = worstFirst([
    layer("a", 0.9, null),
    layer("b", 0.1, 0.5),
    layer("c", 0.2, 0.7),
    layer("d", 0.95, null),
  ]);
  assert.deepEqual(ranked.map(({ name }) => name), ["c", "b", "d", "a"]);
});
