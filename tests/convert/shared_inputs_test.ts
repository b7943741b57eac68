/** Layers that read the same inputs share what is made of them; their files are those of layers by themselves. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel, type ConvertRequest } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { joinParts } from "../../src/convert/parts/join.ts";
import { InterruptedError } from "../../src/core/errors.ts";
import { seededFloats } from "../lora/floats.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

/** In the order of their names: the layer of other inputs is between the others. */
const LAYERS = ["k", "out", "q", "v"].map((name) => `blocks.0.attn.${name}`);

function weights(cols: number): Tensor[] {
  return LAYERS.map((name, i) => {
    const rows = 32 * (i + 1), values = seededFloats(rows * cols, i);
    return tensorOf(`${name}.weight`, "BF16", [rows, cols], Uint16Array.from(values, f32ToBf16));
  });
}

/** Rows of inputs, or their second moments: those of "out" differ in one number, far from any sample. */
function data(cols: number, rows: number, field: "activations" | "hessian"): Tensor[] {
  const x = seededFloats(Math.max(rows, 1) * cols, 9).map((value, i) => value + ((i % cols) & 3));
  const h = new Float32Array(field === "hessian" ? cols * cols : 0);
  for (let i = 0; field === "hessian" && i < cols; i++) {
    for (let j = 0; j < cols; j++) h[i * cols + j] = (i === j ? 2 : 0) + x[i]! * x[j]! / 9;
  }
  const shape = field === "hessian" ? [cols, cols] : [rows, cols];
  return LAYERS.map((name) => {
    const values = (field === "hessian" ? h : x).slice(), middle = cols * (shape[0]! >> 1) + 300;
    if (name.endsWith("out")) values[middle] = values[300 * cols + (shape[0]! >> 1)] = 0.5;
    return tensorOf(`${name}.${field}`, "F32", shape, values);
  });
}

async function convert(
  folder: string,
  [model, inputs]: readonly [readonly Tensor[], readonly Tensor[]],
  { workers, ...options }: { workers: number } & Partial<ConvertOptions>,
  { isAgain = false, ...more }: Partial<ConvertRequest> & { isAgain?: boolean } = {},
): Promise<Map<string, Tensor>> {
  const [input, output, calibrationPath] = ["in", "out", "data"].map((name) =>
    join(folder, `${name}.safetensors`)
  ) as [string, string, string];
  if (!isAgain) {
    writeModel(input, model);
    writeModel(calibrationPath, inputs);
  }
  await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      preset: { kind: "none" },
      calibrationPath,
      ...options,
    },
    workerUrl: WORKER,
    workers,
    force: true,
    ...more,
  }, { saveMs: 1, touchMs: 5, watchMs: 100 });
  return more.part === undefined ? readModel(output) : new Map();
}

const CASES = {
  "small layers": [512, 600, "activations", {}],
  "large layers": [1952, 640, "activations", { scaling: "row", convrot: "off" }],
  "layers in the space of their rows": [1280, 96, "activations", {}],
  "second moments": [512, 0, "hessian", { scaling: "tensor", convrot: "off", actOrder: false }],
  "4 bits": [512, 600, "activations", { output: "w4a8" }],
} as const;

for (const [what, [cols, rows, field, options]] of Object.entries(CASES)) {
  Deno.test(`convertModel() gives layers that share their inputs what each gets by itself: ${what}`, async () => {
    using folder = temporaryFolder();
    const model = weights(cols), inputs = data(cols, rows, field);
    const alone = new Map<string, Tensor>();
    for (const [i, layer] of model.entries()) {
      const own = await convert(folder.path, [[layer], [inputs[i]!]], { workers: 1, ...options });
      for (const [name, tensor] of own) alone.set(name, tensor);
    }
    for (const workers of cols === 1952 ? [2] : [1, 2]) {
      const all = await convert(folder.path, [model, inputs], { workers, ...options });
      for (const [name, tensor] of all) {
        assert.deepEqual(tensor.data, alone.get(name)?.data, `${name}, ${workers} workers`);
      }
    }
  });
}

const FILES = [weights(512), data(512, 600, "activations")] as const;

function sameAs(got: ReadonlyMap<string, Tensor>, want: ReadonlyMap<string, Tensor>): void {
  for (const [name, tensor] of want) assert.deepEqual(got.get(name)?.data, tensor.data, name);
}

Deno.test("joinParts() makes the file of one run of parts whose layers share inputs", async () => {
  using folder = temporaryFolder();
  const whole = await convert(folder.path, FILES, { workers: 2 });
  for (const index of [1, 2]) {
    const part = { index, count: 2, command: ["in.safetensors", "out.safetensors"] };
    await convert(folder.path, FILES, { workers: 2 }, { part, isAgain: true });
  }
  const output = join(folder.path, "out.safetensors");
  await joinParts({ output, force: true, program: "quantsmith" });
  sameAs(readModel(output), whole);
});

Deno.test("convertModel() with resume continues behind a layer whose inputs others share", async () => {
  using folder = temporaryFolder();
  const whole = await convert(folder.path, FILES, { workers: 1 });
  const controller = new AbortController();
  const interrupted = convert(folder.path, FILES, { workers: 1 }, {
    isAgain: true,
    resume: true,
    signal: controller.signal,
    onLayer: () => controller.abort(),
  });
  await assert.rejects(interrupted, InterruptedError);
  let resumed: number | null = null;
  const again = await convert(folder.path, FILES, { workers: 1 }, {
    isAgain: true,
    resume: true,
    onPlan: (start) => resumed = start.resumed,
  });
  assert.ok(resumed! > 0, "nothing was finished before");
  sameAs(again, whole);
});
