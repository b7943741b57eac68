import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openLoraSteering } from "../../src/calibration/lora_steering.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";
import { activations, COLS, ROWS, TOKENS, weights } from "../support/outlier_layer.ts";

const NAME = "blocks.0.lin.weight";
const RANK = 4;

/** lora_A of some LoRA: `[RANK, COLS]`. */
const DIRECTIONS = Float32Array.from(
  { length: RANK * COLS },
  (_, i) => Math.sin(i * 12.9898) * (1 + (i % 5)),
);

async function withFiles(
  body: (
    run: (options: Partial<ConvertOptions>) => Promise<Float32Array>,
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeModel(at("in.safetensors"), [tensorOf(NAME, "F32", [ROWS, COLS], weights())]);
  writeModel(at("lora.safetensors"), [
    tensorOf("blocks.0.lin.lora_A.weight", "F32", [RANK, COLS], DIRECTIONS),
    tensorOf(
      "blocks.0.lin.lora_B.weight",
      "F32",
      [ROWS, RANK],
      new Float32Array(ROWS * RANK).fill(1),
    ),
  ]);
  writeModel(at("data.safetensors"), [
    tensorOf("blocks.0.lin.activations", "F32", [TOKENS, COLS], activations(TOKENS, 1)),
  ]);
  let count = 0;
  await body(async (options) => {
    const output = at(`${count++}.safetensors`);
    await convertModel({
      input: at("in.safetensors"),
      output,
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        scaling: "row",
        ...options,
      },
      workerUrl: WORKER_URL,
      workers: 2,
    });
    return errorsOf(output);
  }, folder.path);
}

function errorsOf(path: string): Float32Array {
  const model = readModel(path), w = weights();
  const codes = new Int8Array(model.get(NAME)!.data.slice().buffer);
  const scales = new Float32Array(model.get("blocks.0.lin.weight_scale")!.data.slice().buffer);
  return w.map((x, i) => x - codes[i]! * scales[Math.floor(i / COLS)]!);
}

/** Squared length of what the errors make of the LoRA's directions. */
function alongDirections(errors: Float32Array): number {
  let energy = 0;
  for (let d = 0; d < RANK; d++) {
    for (let r = 0; r < ROWS; r++) {
      let sum = 0;
      for (let k = 0; k < COLS; k++) sum += errors[r * COLS + k]! * DIRECTIONS[d * COLS + k]!;
      energy += sum * sum;
    }
  }
  return energy;
}

const energyOf = (errors: Float32Array) => errors.reduce((sum, e) => sum + e * e, 0);

Deno.test("calibrationLora makes errors small along the directions of the LoRA, without other data", async () => {
  await withFiles(async (run, folder) => {
    const plain = await run({});
    const steered = await run({ calibrationLora: join(folder, "lora.safetensors") });
    const along = alongDirections(steered) / alongDirections(plain);
    assert(along < 0.1, `${along} of the error along the directions`);
    const all = energyOf(steered) / energyOf(plain);
    assert(all < 1.3, `${all} of the weight error`);
  });
});

Deno.test("calibrationLora adds its directions to the Hessian of activations, also rotated and transformed", async () => {
  await withFiles(async (run, folder) => {
    const calibrationPath = join(folder, "data.safetensors");
    const plain = await run({ calibrationPath });
    const calibrationLora = join(folder, "lora.safetensors");
    const steered = await run({ calibrationPath, calibrationLora });
    const along = alongDirections(steered) / alongDirections(plain);
    assert(along < 0.5, `${along} of the error along the directions`);
    for (const options of [{ convrot: 64 }, { method: "quip" }] as const) {
      await run({ calibrationPath, calibrationLora, ...options });
    }
    const quip = { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true };
    await run({ calibrationLora, method: "quip", quip });
  });
});

Deno.test("openLoraSteering() lists what has no place, and refuses the LoRA of another model", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "lora.safetensors");
  const part = (module: string) => [
    tensorOf(`${module}.lora_A.weight`, "F32", [1, 8], new Float32Array(8).fill(1)),
    tensorOf(`${module}.lora_B.weight`, "F32", [8, 1], new Float32Array(8).fill(1)),
  ];
  const tensors = [0, 1].map((k) =>
    ({ name: `blocks.${k}.lin.weight`, dtype: "F32", shape: [8, 8] }) as const
  );
  writeModel(path, [...part("blocks.1.lin"), ...part("blocks.7.lin")]);
  const steering = openLoraSteering(tensors, path);
  assert.deepEqual([...steering.names], ["blocks.1.lin.weight"]);
  assert.match(steering.notes.join(), /blocks\.7\.lin/);
  assert.equal(steering.directionsOf("blocks.0.lin.weight"), null);
  assert.equal(steering.directionsOf("blocks.1.lin.weight")!.rank, 1);
  writeModel(path, part("other.3.thing"));
  assert.throws(() => openLoraSteering(tensors, path), /other/);
});

Deno.test("calibrationLora beside bad channel statistics names the file that they are from", async () => {
  await withFiles(async (run, folder) => {
    const calibrationPath = join(folder, "channels.json");
    const channel_max = Array.from({ length: COLS }, (_, k) => k === 7 ? -1 : 1);
    writeFileSync(calibrationPath, JSON.stringify({ "blocks.0.lin": { channel_max } }));
    const calibrationLora = join(folder, "lora.safetensors");
    await assert.rejects(
      run({ calibrationPath, calibrationLora }),
      /channels\.json.*channel_max\[7\] is -1/,
    );
  });
});
