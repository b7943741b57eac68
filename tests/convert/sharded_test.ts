import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { convertModel, type ConvertRequest } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { writeCalibratedModel } from "../support/calibrated_model.ts";
import { readModel, temporaryFolder } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";

function convert(
  input: string,
  output: string,
  options: Partial<ConvertOptions>,
  more: Partial<ConvertRequest> = {},
) {
  return convertModel({
    ...more,
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER_URL,
    workers: 2,
    measure: true,
  });
}

Deno.test("convertModel() writes the same tensors into shards as into one file, biases corrected", async () => {
  using folder = temporaryFolder();
  const { input, calibration } = writeCalibratedModel(folder.path, { layers: 6, rows: 96 });
  const options: Partial<ConvertOptions> = {
    calibrationPath: calibration,
    staticActivations: true,
    saveQuantMetadata: true,
  };
  const one = await convert(input, join(folder.path, "one.safetensors"), options);
  const shardBytes = 60_000;
  const path = join(folder.path, "many.safetensors");
  const many = await convert(input, path, { ...options, shardBytes });
  assert.equal(many.output, join(folder.path, "many.safetensors.index.json"));
  assert.deepEqual(
    many.files.map((file) => basename(file)),
    [1, 2, 3].map((n) => `many-0000${n}-of-00003.safetensors`),
  );
  assert(many.files.every((file) => readFileSync(file).length <= shardBytes));
  assert.deepEqual(readModel(many.output), readModel(one.output));
  assert.deepEqual(many.layers, one.layers);
  assert(many.layers.some(({ bias }) => bias !== null && bias.factor > 0));
  const weightMap = JSON.parse(readFileSync(many.output, "utf8")).weight_map;
  for (const [name, file] of Object.entries(weightMap)) {
    const weight = name.replace(/[^.]*$/, "weight");
    if (weight in weightMap) assert.equal(file, weightMap[weight], name);
  }
});

Deno.test("convertModel() reads its own shards as it reads one file", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 4, rows: 96 });
  // Copies of everything, so that the shards are a model that can be converted again.
  const layout: Partial<ConvertOptions> = {
    excludeLayers: /./,
    allowCopy: true,
    shardBytes: 60_000,
  };
  const shards = await convert(input, join(folder.path, "copy.safetensors"), layout);
  assert(shards.files.length > 1);
  const a = await convert(input, join(folder.path, "a.safetensors"), {});
  const b = await convert(shards.output, join(folder.path, "b.safetensors"), {});
  assert.deepEqual(readModel(b.output), readModel(a.output));
});

Deno.test("convertModel() writes one file without an index if a shard takes all", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 2, rows: 8 });
  const path = join(folder.path, "out.safetensors");
  const { output, files } = await convert(input, path, { shardBytes: 1e9 });
  assert.deepEqual([output, files], [path, [path]]);
});

Deno.test("convertModel() refuses shards if a file of theirs exists, and leaves nothing behind", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 2, rows: 96 });
  const path = join(folder.path, "out.safetensors");
  const { files } = await convert(input, path, { shardBytes: 30_000 });
  const before = readdirSync(folder.path);
  await assert.rejects(convert(input, path, { shardBytes: 30_000 }), /exists; `--force`/);
  assert.deepEqual(readdirSync(folder.path), before);
  assert(files.length > 1);
});

Deno.test("convertModel() with force removes shards that no index names any more, and reports models beside", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 4, rows: 96 });
  const path = join(folder.path, "out.safetensors");
  const many = await convert(input, path, { shardBytes: 30_000 });
  const force = true, names = many.files.map((file) => basename(file));
  let notes: readonly string[] = [];
  const onPlan: ConvertRequest["onPlan"] = (start) =>
    notes = start.notes.filter((note) => !note.includes("the model lies in"));
  const fewer = await convert(input, path, { shardBytes: 60_000 }, { force, onPlan });
  assert(fewer.files.length > 1 && fewer.files.length < many.files.length);
  assert.deepEqual(fewer.replaced, { removed: names, left: [] });
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => /^\.?out/.test(name)).sort(),
    [...fewer.files, fewer.output].map((file) => basename(file)).sort(),
  );
  assert.deepEqual(notes, []);
  // One file takes no name of theirs.
  const one = await convert(input, path, {}, { force, onPlan });
  assert.deepEqual(one.replaced, { removed: [], left: [] });
  assert.match(notes.join(), /^"[^"]*out\.safetensors\.index\.json" stays beside the output/);
  assert.deepEqual(readModel(fewer.output), readModel(one.output));
  await convert(input, path, { shardBytes: 60_000 }, { force, onPlan });
  assert.match(notes.join(), /^"[^"]*out\.safetensors" stays beside the output/);
});

Deno.test("convertModel() does not replace the index of its input, which would take its shards with it", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 4, rows: 96 });
  const layout: Partial<ConvertOptions> = {
    excludeLayers: /./,
    allowCopy: true,
    shardBytes: 60_000,
  };
  const path = join(folder.path, "shards.safetensors");
  const shards = await convert(input, path, layout);
  const before = readdirSync(folder.path);
  for (const source of [shards.output, shards.files[0]!]) {
    await assert.rejects(
      convert(source, path, { shardBytes: 20_000 }, { force: true }),
      /Cannot write ".*index\.json": it is the index of the input "shards-00001-of-/,
    );
    assert.deepEqual(readdirSync(folder.path), before);
  }
  // Beside them is a place like any other.
  let notes: readonly string[] = [];
  await convert(shards.output, path, {}, { onPlan: (start) => notes = start.notes });
  assert.deepEqual(notes, []);
  assert.deepEqual(readdirSync(folder.path).sort(), [...before, "shards.safetensors"].sort());
});
