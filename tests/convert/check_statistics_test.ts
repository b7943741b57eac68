/** Numbers that are none are found in calibration data before any work, wherever they are needed. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FormatError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";
import { WORKER_URL } from "../support/encode.ts";

const ROWS = 8, COLS = 32, TOKENS = 40, LAYER = "blocks.0.lin";
const { weight, inputs } = syntheticLayer({ rows: ROWS, cols: COLS, seed: 3 });

/** Converts the layer with `data`; says what was thrown, and whether work had begun. */
async function convertWith(data: readonly Tensor[]) {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), output = join(folder.path, "out.safetensors");
  const calibrationPath = join(folder.path, "data.safetensors");
  writeModel(input, [tensorOf(`${LAYER}.weight`, "F32", [ROWS, COLS], weight)]);
  writeModel(calibrationPath, data);
  let hasBegun = false;
  const thrown = await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      calibrationPath,
      calibrationHoldout: 0.25,
      staticActivations: true,
    },
    workerUrl: WORKER_URL,
    workers: 1,
    onPlan: () => hasBegun = true,
  }).then(() => null, (error: unknown) => error);
  assert.equal(existsSync(output), thrown === null);
  return { thrown, hasBegun };
}

const field = (name: string, shape: readonly number[], values: Float32Array) =>
  tensorOf(`${LAYER}.${name}`, "F32", shape, values);

const rows = (at: number, value: number) =>
  field("activations", [TOKENS, COLS], inputs(TOKENS, 1).map((x, i) => i === at ? value : x));

Deno.test("convertModel() refuses calibration data with numbers that are none before any work", async (t) => {
  const good = rows(-1, 0), means = new Float32Array(COLS).fill(1);
  const cases: Readonly<Record<string, readonly [readonly Tensor[], RegExp]>> = {
    "a row that is fitted to": [[rows(2 * COLS + 3, Infinity)], /activations\[2, 3\] is Infinity/],
    "a row that is held out": [[rows((TOKENS - 1) * COLS, NaN)], /activations\[39, 0\] is NaN/],
    "the mean of a channel": [
      [good, field("channel_mean", [COLS], means.map((x, k) => k === 5 ? NaN : x))],
      /channel_mean\[5\] is NaN/,
    ],
    "a maximum below 0": [
      [good, field("channel_max", [COLS], means.map((x, k) => k === 6 ? -x : x))],
      /channel_max\[6\] is -1, needs 0 or more/,
    ],
    "the scale of static activations": [
      [good, field("input_scale", [], Float32Array.of(0))],
      /input_scale is 0, needs a number above 0/,
    ],
  };
  for (const [what, [data, words]] of Object.entries(cases)) {
    await t.step(what, async () => {
      const { thrown, hasBegun } = await convertWith(data);
      assert.ok(thrown instanceof FormatError, String(thrown));
      assert.match(thrown.message, words);
      assert.match(thrown.message, /data\.safetensors/);
      assert.equal(hasBegun, false);
    });
  }
});

Deno.test("convertModel() takes data of layers that are not quantized as it is", async () => {
  const other = tensorOf("blocks.9.lin.channel_max", "F32", [2], Float32Array.of(NaN, -1));
  assert.equal((await convertWith([rows(-1, 0), other])).thrown, null);
});
