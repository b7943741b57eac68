/** Text encoders beside ComfyUI's own, on small models: what every linear layer takes in. */

import assert from "node:assert/strict";
import fs from "node:fs";
import { bf16ToF32 } from "../../../src/core/dtype.ts";
import { floatMatrix } from "../../../src/formats/float_matrix.ts";
import type { EncodeTask, RecordedInputs } from "../../../src/run/tasks.ts";
import { parseEncoderConfig } from "../../../src/presets/encoders/encoder_config.ts";
import { linearGroups } from "../../../src/presets/encoders/encoder_graph.ts";
import { findEncoder } from "../../../src/presets/encoders/find_encoder.ts";
import { WorkerPool } from "../../../src/run/workers/worker_pool.ts";
import { openModel } from "../../../src/safetensors/reader.ts";
import { WORKER_URL } from "../../support/encode.ts";
import { MeasuredPool } from "../../support/measured_pool.ts";
import { temporaryFolder } from "../../support/model_files.ts";
import { SMALL_MODELS, type SmallModel, wantedInputs, writeSmallModel } from "./small_models.ts";

/** A task that writes everything of all layers to one file, and how it is read back. */
function taskOf(model: SmallModel, file: string, texts: Pick<EncodeTask, "tokens" | "lengths">) {
  const source = openModel(file);
  const config = model.config === null ? null : parseEncoderConfig(JSON.stringify(model.config));
  const shapes = new Map(source.tensors.map(({ name, shape }) => [name, shape]));
  const graph = findEncoder(shapes, { path: file, config: () => config });
  const tensors = Object.fromEntries(
    source.tensors.map((tensor) => [tensor.name, floatMatrix(tensor)]),
  );
  const kept = Int32Array.from({ length: texts.tokens.length }, (_, i) => i);
  let at = 0;
  const take = (bytes: number) => (at += bytes) - bytes;
  const layers: Record<string, RecordedInputs> = {};
  for (const { weight } of graph.blocks.flatMap((block) => linearGroups(block).flat())) {
    const { cols } = tensors[weight]!;
    layers[weight] = {
      maxOffsetBytes: take(4 * cols),
      meanOffsetBytes: take(4 * cols),
      rowsOffsetBytes: take(2 * cols * kept.length),
    };
  }
  const task: EncodeTask = {
    kind: "encode",
    name: "model",
    graph,
    tensors,
    kept,
    layers,
    ...texts,
  };
  return { source, task, bytes: at };
}

async function run(
  folder: string,
  { source, task, bytes }: ReturnType<typeof taskOf>,
  pool: Pick<WorkerPool, "run">,
) {
  const path = `${folder}/out.bin`;
  fs.writeFileSync(path, new Uint8Array(bytes));
  const place = { output: path, path, startBytes: 0, totalBytes: bytes };
  await pool.run({ inputPaths: source.paths, outputs: [place], tasks: [task] });
  return fs.readFileSync(path);
}

function rowsIn(written: Uint8Array, { rowsOffsetBytes }: RecordedInputs, cols: number) {
  const view = new DataView(written.buffer, written.byteOffset);
  return (row: number) =>
    Float32Array.from(
      { length: cols },
      (_, k) => bf16ToF32(view.getUint16(rowsOffsetBytes + 2 * (row * cols + k), true)),
    );
}

/** The first value of `got` that is not `want` rounded to BF16, but for what sums in another order differ by; null: none. */
function difference(got: Float32Array, want: Float32Array): string | null {
  const most = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const k = got.findIndex((x, k) =>
    !(Math.abs(x - want[k]!) <= 2 ** -8 * Math.abs(want[k]!) + 1e-5 * most)
  );
  return k < 0 ? null : `channel ${k}: ${got[k]} for ${want[k]}`;
}

for (const model of SMALL_MODELS) {
  Deno.test(`encodeTexts() gives every layer of ${model.title} what ComfyUI gives it`, async () => {
    using folder = temporaryFolder();
    const file = writeSmallModel(folder.path, model, fs.writeFileSync);
    const texts = { tokens: Int32Array.from(model.tokens), lengths: model.lengths };
    const made = taskOf(model, file, texts);
    const pool = new MeasuredPool();
    const written = await run(folder.path, made, pool.pool);
    assert.deepEqual(
      Object.keys(made.task.layers).map((weight) => weight.replace(/\.weight$/, "")).sort(),
      Object.keys(model.inputs).sort(),
    );
    for (const [weight, place] of Object.entries(made.task.layers)) {
      const layer = weight.replace(/\.weight$/, ""), { cols } = made.task.tensors[weight]!;
      const want = wantedInputs(model, layer), got = rowsIn(written, place, cols);
      model.rows.forEach((row, i) => {
        const wrong = difference(got(row), want.subarray(i * cols, (i + 1) * cols));
        assert.equal(wrong, null, `${layer}, token ${row}`);
      });
    }
    for (const { memory, planned, used } of pool.measured) {
      assert.ok(planned >= used && planned <= 1.1 * used, `${memory}: ${planned} for ${used}`);
    }
  });
}

Deno.test("encodeTexts() writes the same for any number of workers and bands, and the statistics of all tokens", async () => {
  using folder = temporaryFolder();
  const model = SMALL_MODELS.find(({ title }) => title === "Gemma 3")!, times = 90;
  const file = writeSmallModel(folder.path, model, fs.writeFileSync);
  // Several bands, the last one smaller.
  const repeated = <T>(items: readonly T[]) => Array.from({ length: times }, () => items).flat();
  const texts = {
    tokens: Int32Array.from(repeated(model.tokens)),
    lengths: repeated(model.lengths),
  };
  const made = taskOf(model, file, texts);
  const outputs: Uint8Array[] = [];
  for (const workers of [1, 3]) {
    using pool = new WorkerPool(WORKER_URL, workers);
    outputs.push(await run(folder.path, made, pool));
  }
  assert.deepEqual(outputs[1], outputs[0]);
  const weight = "model.layers.1.mlp.down_proj.weight", { cols } = made.task.tensors[weight]!;
  const place = made.task.layers[weight]!, got = rowsIn(outputs[0]!, place, cols);
  const period = model.tokens.length;
  assert.deepEqual(got(period * (times - 1) + 4), got(4));
  const view = new DataView(outputs[0]!.buffer, outputs[0]!.byteOffset);
  const rows = Array.from({ length: period }, (_, t) => got(t));
  for (let k = 0; k < cols; k++) {
    const most = Math.max(...rows.map((row) => Math.abs(row[k]!)));
    const mean = rows.reduce((sum, row) => sum + row[k]!, 0) / period;
    const near = 2 ** -8 * most;
    assert.ok(Math.abs(view.getFloat32(place.maxOffsetBytes + 4 * k, true) - most) <= near);
    assert.ok(Math.abs(view.getFloat32(place.meanOffsetBytes + 4 * k, true) - mean) <= near);
  }
});
