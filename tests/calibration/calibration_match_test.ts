import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { openCalibration } from "../../src/calibration/calibration.ts";
import { matchCalibration, unusedCalibration } from "../../src/calibration/calibration_match.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { prepare } from "../../src/convert/prepare.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const MODEL: readonly TensorInfo[] = [
  { name: "a.weight", dtype: "F32", shape: [3, 2] },
  { name: "norm.weight", dtype: "F32", shape: [2] },
];

/** What `matchCalibration` says of JSON `content`, for the model above. */
function match(content: unknown, tensors = MODEL): string[] {
  using folder = temporaryFolder();
  const path = join(folder.path, "data.json");
  writeFileSync(path, JSON.stringify(content));
  return matchCalibration(openCalibration(path), tensors);
}

Deno.test("matchCalibration() names every layer that the model does not have", () => {
  const own = { a: { channel_max: [1, 2] } };
  assert.deepEqual(match(own), []);
  assert.deepEqual(match({ ...own, b: { input_scale: 1 }, c: { channel_max: [1] } }), [
    'the calibration data has 2 layers that the model does not: "b", "c"',
  ]);
});

Deno.test("matchCalibration() refuses another number of channels in any field", () => {
  const activations = [[1, 2], [3, 4]];
  assert.deepEqual(match({ a: { activations, input_scale: 2 } }), []);
  for (const field of ["channel_max", "channel_mean"]) {
    assert.throws(
      () => match({ a: { activations, [field]: [1, 2, 3] } }),
      new RegExp(`data\\.json.*${field} of "a" has 3 channels, its weight has 2 columns`),
    );
  }
  assert.throws(
    () => match({ a: { activations, hessian: [[1]] } }),
    /hessian of "a" has 1 channels/,
  );
});

Deno.test("matchCalibration() refuses data that knows no layer of the model, or none at all", () => {
  assert.throws(
    () => match({ b: { channel_max: [1, 2] } }),
    /none of the model's layers: it has "b", the model has "a"/,
  );
  assert.throws(() => match({}), /no statistics of any layer/);
  assert.throws(() => match({ a: {} }), /no statistics of any layer/);
  assert.throws(() => match({ b: { channel_max: [1] } }, []), /it has "b"; calibrate/);
});

Deno.test("openCalibration() refuses a layer under two names", () => {
  const twice = { a: { channel_max: [1, 2] }, "a.weight": { channel_max: [3, 4] } };
  assert.throws(() => match(twice), /channel_max of "a" twice/);
  const apart = { a: { channel_max: [1, 2] }, "a.weight": { channel_mean: [3, 4] } };
  assert.deepEqual(match(apart), []);
  using folder = temporaryFolder();
  const path = join(folder.path, "data.safetensors");
  const x = Float32Array.of(1, 2);
  writeModel(path, [
    tensorOf("a.channel_max", "F32", [2], x),
    tensorOf("a.weight.channel_max", "F32", [2], x),
  ]);
  assert.throws(() => openCalibration(path), /data\.safetensors.*channel_max of "a" twice/);
});

Deno.test("unusedCalibration() names layers with data that are not quantized", () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), path = join(folder.path, "data.json");
  const names = Array.from({ length: 10 }, (_, k) => `norm${k}`);
  writeModel(input, [
    tensorOf("a.weight", "F32", [16, 16], new Float32Array(256).fill(1)),
    ...names.map((name) => tensorOf(`${name}.weight`, "F32", [4], new Float32Array(4))),
  ]);
  const notesOf = (layers: readonly string[]) => {
    const entry = (name: string) => ({ channel_max: Array(name === "a" ? 16 : 4).fill(1) });
    writeFileSync(path, JSON.stringify(Object.fromEntries(layers.map((l) => [l, entry(l)]))));
    const { plan } = prepare(input, { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } });
    return unusedCalibration(openCalibration(path), plan);
  };
  assert.deepEqual(notesOf(["a"]), []);
  assert.deepEqual(notesOf(["a", "norm3"]), [
    'the calibration data has 1 layer that is not quantized: "norm3" (`--dry-run` has the reasons)',
  ]);
  const [all] = notesOf(["a", ...names]);
  assert.match(all!, /10 layers that are not quantized: "norm0", .*"norm7" and 2 more/);
});
