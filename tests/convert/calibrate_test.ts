import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { calibrateModel, statisticsOf } from "../../src/convert/calibrate.ts";
import { openCalibration } from "../../src/calibration/calibration.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";
import { COLS, ROWS, weights } from "../support/outlier_layer.ts";

const NAME = "blocks.0.lin.weight";
const NONE = { preset: { kind: "none" } } as const;

function files() {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const input = at("in.safetensors");
  writeModel(input, [tensorOf(NAME, "F32", [ROWS, COLS], weights())]);
  return { input, at, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

const REQUEST = { samples: 32, seed: 7, lora: null, force: true, options: NONE } as const;

Deno.test("calibrateModel() writes the same statistics as JSON and as safetensors, marked synthetic", async () => {
  using folder = files();
  const { input, at } = folder;
  for (const name of ["c.json", "c.safetensors"]) {
    const { layers } = await calibrateModel({ ...REQUEST, input, output: at(name) });
    assert.equal(layers, 1);
    assert.equal(openCalibration(at(name)).isSynthetic, true, name);
  }
  const json = JSON.parse(readFileSync(at("c.json"), "utf8"))["blocks.0.lin"];
  const model = readModel(at("c.safetensors"));
  const f32 = (field: string) =>
    new Float32Array(model.get(`blocks.0.lin.${field}`)!.data.slice().buffer);
  assert.deepEqual(Float32Array.from(json.channel_max), f32("channel_max"));
  assert.deepEqual(Float32Array.from(json.channel_mean), f32("channel_mean"));
  assert.equal(json.input_scale, f32("input_scale")[0]);
});

Deno.test("statisticsOf() depends on seed and name, and has the moments of normal deviates", () => {
  const options = { samples: 4000, seed: 1, name: "a", directions: null };
  const one = statisticsOf(8, options);
  assert.deepEqual(statisticsOf(8, options), one);
  assert.notDeepEqual(statisticsOf(8, { ...options, seed: 2 }), one);
  assert.notDeepEqual(statisticsOf(8, { ...options, name: "b" }), one);
  for (const mean of one.channelMean) {
    assert(Math.abs(mean - Math.sqrt(2 / Math.PI)) < 0.05, `${mean}`);
  }
});

Deno.test("calibrateModel() makes the channels loud that a LoRA reads", async () => {
  using folder = files();
  const { input, at } = folder;
  const a = new Float32Array(COLS);
  a[5] = 3;
  writeModel(at("lora.safetensors"), [
    tensorOf("blocks.0.lin.lora_A.weight", "F32", [1, COLS], a),
    tensorOf("blocks.0.lin.lora_B.weight", "F32", [ROWS, 1], new Float32Array(ROWS).fill(1)),
  ]);
  const result = await calibrateModel({
    ...REQUEST,
    input,
    output: at("c.safetensors"),
    lora: at("lora.safetensors"),
  });
  assert.equal(result.steered, 1);
  const max = new Float32Array(
    readModel(at("c.safetensors")).get("blocks.0.lin.channel_max")!.data.slice().buffer,
  );
  assert(max[5]! > 3 * Math.max(...max.filter((_, k) => k !== 5)));
});

Deno.test("convertModel() does not compensate by synthetic statistics, and writes their scale", async () => {
  using folder = files();
  const { input, at } = folder;
  await calibrateModel({ ...REQUEST, input, output: at("c.safetensors") });
  const run = async (name: string, more: Record<string, unknown>) => {
    const output = at(name);
    await convertModel({
      input,
      output,
      options: { ...DEFAULT_CONVERT_OPTIONS, ...NONE, ...more },
      workerUrl: WORKER_URL,
      workers: 1,
    });
    return output;
  };
  const plain = await run("plain.safetensors", {});
  const calibrationPath = at("c.safetensors");
  assert.deepEqual(
    bytesOfFile(await run("c1.safetensors", { calibrationPath })),
    bytesOfFile(plain),
  );
  const fixed = readModel(
    await run("c2.safetensors", { calibrationPath, staticActivations: true }),
  );
  const given = readModel(calibrationPath).get("blocks.0.lin.input_scale")!.data;
  assert.deepEqual(fixed.get("blocks.0.lin.input_scale")!.data, given);
});
