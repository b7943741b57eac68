/** Calibration data that is broken, useless or misleading: through the command line, and its effect. */

import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { convertToInt8, FormatError } from "../../mod.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const ROWS = 24, COLS = 64, TOKENS = 96;
const LAYER = "blocks.0.lin";

/** Numbers in -1..1 by a seeded LCG. */
function deviates(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from(
    { length: count },
    () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1,
  );
}

const X = deviates(TOKENS * COLS, 3);

/** XᵀX of the inputs above, changed by `change`. */
function hessian(change: (values: Float32Array) => void = () => {}): Float32Array {
  const h = new Float32Array(COLS * COLS);
  for (let i = 0; i < COLS; i++) {
    for (let j = 0; j < COLS; j++) {
      for (let t = 0; t < TOKENS; t++) h[i * COLS + j]! += X[t * COLS + i]! * X[t * COLS + j]!;
    }
  }
  change(h);
  return h;
}

/** Ones on the diagonal, +-0.9 elsewhere: every pair of channels is possible, all together are not. */
function indefinite(): Float32Array {
  const signs = deviates(COLS * COLS, 5);
  return Float32Array.from({ length: COLS * COLS }, (_, at) => {
    const i = Math.floor(at / COLS), j = at % COLS;
    return i === j ? 1 : 0.9 * Math.sign(signs[Math.max(i, j) * COLS + Math.min(i, j)]!);
  });
}

function data(field: string, shape: readonly number[], values: Float32Array): Tensor {
  return tensorOf(`${LAYER}.${field}`, "F32", shape, values);
}

const square = (values: Float32Array) => data("hessian", [COLS, COLS], values);

/** Runs the conversion of one layer and a second one without data; returns what came of it. */
async function convert(folder: string, content: readonly Tensor[] | string, flags: string[] = []) {
  const input = join(folder, "in.safetensors"), output = join(folder, "out.safetensors");
  const isJson = typeof content === "string";
  const path = join(folder, isJson ? "cal.json" : "cal.safetensors");
  if (isJson) writeFileSync(path, content);
  else writeModel(path, content);
  writeModel(input, [
    tensorOf(`${LAYER}.weight`, "F32", [ROWS, COLS], deviates(ROWS * COLS, 1)),
    tensorOf("blocks.1.lin.weight", "F32", [ROWS, COLS], deviates(ROWS * COLS, 2)),
    tensorOf("blocks.0.norm.weight", "F32", [COLS], new Float32Array(COLS).fill(1)),
  ]);
  const run = await runCli([
    input,
    output,
    "--preset=none",
    "--workers=2",
    "--no-progress",
    `--calibration-data=${path}`,
    ...flags,
  ]);
  return { ...run, output, path };
}

const SCALAR = Float32Array.of(-1);

/** Content, and what the one line must say besides the name of the file. */
const REFUSED: Readonly<Record<string, readonly [readonly Tensor[] | string, RegExp, string[]?]>> =
  {
    "a Hessian that is not symmetric": [
      [square(hessian((h) => h[3 * COLS + 1] = 50))],
      /"blocks\.0\.lin\.hessian".*not symmetric, hessian\[3, 1\]/,
    ],
    "a negative diagonal": [
      [square(hessian((h) => h[5 * COLS + 5] = -1))],
      /hessian\[5, 5\] is -1.*calibrate again/,
    ],
    "two channels that no inputs have": [
      [square(hessian((h) => h[1] = h[COLS] = 1e9))],
      /not positive semidefinite, hessian\[1, 0\]/,
    ],
    "a Hessian with NaN": [
      [square(hessian((h) => h[2 * COLS + 1] = NaN))],
      /hessian\[2, 1\] is NaN/,
    ],
    "a Hessian of another size": [
      [data("hessian", [32, 32], new Float32Array(32 * 32))],
      /hessian of "blocks\.0\.lin" has 32 channels, its weight has 64/,
    ],
    "inputs with infinity": [
      [data("activations", [TOKENS, COLS], X.map((x, i) => i === 2 * COLS + 7 ? Infinity : x))],
      /activations\[2, 7\] is Infinity/,
    ],
    "negative maxima": [
      [data("channel_max", [COLS], new Float32Array(COLS).fill(-2))],
      /channel_max\[0\] is -2, needs 0 or more/,
    ],
    "held-out inputs with NaN": [
      [data("activations", [TOKENS, COLS], X.map((x, i) => i === X.length - 1 ? NaN : x))],
      /activations\[95, 63\] is NaN/,
      ["--calibration-holdout=0.2"],
    ],
    "means with NaN beside inputs": [
      [
        data("activations", [TOKENS, COLS], X),
        data("channel_mean", [COLS], new Float32Array(COLS).fill(NaN, 3)),
      ],
      /channel_mean\[3\] is NaN/,
    ],
    "a number in JSON that no f32 holds": [
      `{"${LAYER}": {"channel_max": [${"1, ".repeat(COLS - 1)} 1e39]}}`,
      /channel_max\[63\] is Infinity/,
    ],
    "a static scale below 0": [
      [data("activations", [TOKENS, COLS], X), data("input_scale", [], SCALAR)],
      /input_scale is -1/,
      ["--static-activations"],
    ],
    "another model's layers": [
      [tensorOf("other.lin.activations", "F32", [TOKENS, COLS], X)],
      /none of the model's layers: it has "other\.lin", the model has "blocks\.0\.lin"/,
    ],
    "an empty JSON object": ["{}", /no statistics of any layer/],
    "JSON with NaN": [`{"${LAYER}": {"channel_max": [NaN]}}`, /no valid JSON/],
  };

Deno.test("quantsmith refuses bad calibration data with exit 1, naming file and place, and leaves no output", async (t) => {
  using folder = temporaryFolder();
  for (const [what, [content, words, flags]] of Object.entries(REFUSED)) {
    await t.step(what, async () => {
      const { code, stderr, output, path } = await convert(folder.path, content, flags);
      assert.equal(code, 1, stderr);
      const line = stderr.trim().split("\n").at(-1)!;
      assert.match(line, /^error: /);
      assert.match(line, words);
      assert.ok(line.includes(path), line);
      assert.equal(existsSync(output), false);
    });
  }
});

Deno.test("convertToInt8() rejects with the class and place of what a worker found in calibration data", async () => {
  using folder = temporaryFolder();
  const bad = square(hessian((h) => h[3 * COLS + 1] = 50));
  const { code, output: outputPath, path } = await convert(folder.path, [bad]);
  assert.equal(code, 1);
  const input = join(folder.path, "in.safetensors");
  await assert.rejects(
    convertToInt8({ input, outputPath, calibrationPath: path, preset: { kind: "none" } }),
    (error) => {
      assert.ok(error instanceof FormatError, `${error}`);
      assert.deepEqual([error.path, error.tensor], [path, `${LAYER}.hessian`]);
      assert.match(error.rule, /not symmetric, hessian\[3, 1\]/);
      return true;
    },
  );
  assert.equal(existsSync(outputPath), false);
});

Deno.test("quantsmith reports data that it cannot use, and then rounds as without data", async (t) => {
  using folder = temporaryFolder();
  const cases: Readonly<Record<string, readonly [Tensor, RegExp]>> = {
    "an indefinite Hessian": [
      square(indefinite()),
      /1 layer was rounded to nearest .* not positive .*: blocks\.0\.lin\.weight/,
    ],
    "a Hessian of zeros": [square(new Float32Array(COLS * COLS)), /because the Hessian is zero/],
    "inputs of zeros": [
      data("activations", [TOKENS, COLS], new Float32Array(TOKENS * COLS)),
      /because the Hessian is zero/,
    ],
    "maxima of zero": [data("channel_max", [COLS], new Float32Array(COLS)), /the Hessian is zero/],
  };
  const stray = tensorOf("blocks.9.lin.channel_max", "F32", [7], new Float32Array(7).fill(1));
  const norm = tensorOf("blocks.0.norm.channel_max", "F32", [3], new Float32Array(3).fill(1));
  let plain: Uint8Array | null = null;
  for (const [what, [tensor, words]] of Object.entries(cases)) {
    await t.step(what, async () => {
      const run = await convert(folder.path, [tensor, stray, norm], ["--force"]);
      assert.equal(run.code, 0, run.stderr);
      assert.match(run.stderr, words);
      assert.match(run.stderr, /1 layer that the model does not: "blocks\.9\.lin"/);
      assert.match(run.stderr, /1 layer that is not quantized: "blocks\.0\.norm"/);
      if (plain === null) {
        const input = join(folder.path, "in.safetensors");
        const path = join(folder.path, "plain.safetensors");
        assert.equal((await runCli([input, path, "--preset=none"])).code, 0);
        plain = bytesOfFile(path);
      }
      assert.deepEqual(bytesOfFile(run.output), plain);
    });
  }
});

Deno.test("quantsmith says in the report what became of a Hessian that needs more damping", async () => {
  using folder = temporaryFolder();
  // Just beyond what inputs can have: a little more damping makes up for it.
  const almost = hessian((h) => {
    for (let i = 0; i < COLS * COLS; i++) if (i % (COLS + 1) !== 0) h[i] = h[i]! * 1.5;
  });
  const path = join(folder.path, "report.json");
  const { code, stderr, output } = await convert(folder.path, [square(almost)], [
    `--report=${path}`,
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /1 layer was compensated with more damping.*blocks\.0\.lin\.weight/);
  const { layers } = JSON.parse(new TextDecoder().decode(bytesOfFile(path)));
  const [layer] = layers.filter(({ name }: { name: string }) => name === `${LAYER}.weight`);
  assert.match(layer.note, /^gptq from hessian, damping raised to \d/);
  assert.ok(readModel(output).has(`${LAYER}.weight_scale`));
});

Deno.test("quantsmith does not write over its calibration data", async () => {
  using folder = temporaryFolder();
  const content = [data("activations", [TOKENS, COLS], X)];
  const { path, output } = await convert(folder.path, content);
  assert.ok(existsSync(output));
  const before = bytesOfFile(path);
  const input = join(folder.path, "in.safetensors");
  const { code, stderr } = await runCli([
    input,
    path,
    "--force",
    "--preset=none",
    `--calibration-data=${path}`,
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /cal\.safetensors/);
  assert.deepEqual(bytesOfFile(path), before);
});
