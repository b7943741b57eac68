import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const VALUES = Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i));

/** A model of one shard behind an index, a layer config, and the path of the output. */
function files(folder: string) {
  const shard = join(folder, "model-00001-of-00001.safetensors");
  const names = ["blocks.0.q.weight", "blocks.1.q.weight"];
  writeModel(shard, names.map((name) => tensorOf(name, "F32", [64, 64], VALUES)));
  const index = join(folder, "model.safetensors.index.json");
  const map = Object.fromEntries(names.map((name) => [name, "model-00001-of-00001.safetensors"]));
  writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: map }));
  const config = join(folder, "layers.json");
  writeFileSync(config, JSON.stringify({ "blocks": { "skip": true } }));
  return { shard, index, config, output: join(folder, "out.safetensors") };
}

interface Refusal {
  readonly name: string;
  readonly words: RegExp;
  args(at: ReturnType<typeof files>, folder: string): string[];
}

const REFUSALS: readonly Refusal[] = [
  {
    name: "a report in the place of the input's index",
    args: ({ index, output }) => [index, output, "--force", "--report", index],
    words: /index\.json": it is the input/,
  },
  {
    name: "a report in the place of an index that another name leads to",
    args: ({ index, output }, folder) => [
      index,
      output,
      "--force",
      "--report",
      join(folder, ".", "sub", "..", "model.safetensors.index.json"),
    ],
    words: /it is the input/,
  },
  {
    name: "a report in the place of the layer config",
    args: ({ index, output, config }) => [
      index,
      output,
      "--force",
      "--layer-config",
      config,
      "--report",
      config,
    ],
    words: /layers\.json": it is the input/,
  },
  {
    name: "a report in the place of the index that the shards get",
    args: ({ shard, output }) => [
      shard,
      output,
      "--shard-size",
      "6kB",
      "--report",
      `${output}.index.json`,
    ],
    words: /the model is written to this name/,
  },
  {
    name: "a report in a folder that is missing",
    args: ({ shard, output }, folder) => [
      shard,
      output,
      "--report",
      join(folder, "missing", "r.html"),
    ],
    words: /missing/,
  },
  {
    name: "a report that exists, without --force",
    args: ({ shard, output }, folder) => {
      writeFileSync(join(folder, "old.json"), "old");
      return [shard, output, "--report", join(folder, "old.json")];
    },
    words: /old\.json": it exists; `--force` replaces it/,
  },
  {
    name: "a template in the place of the input's index",
    args: ({ index }) => [index, "-o", index, "--dry-run=create-template", "--force"],
    words: /it is the input/,
  },
  {
    name: "a template in the place of the layer config that it is made with",
    args: (
      { shard, config },
    ) => [shard, "-o", config, "--layer-config", config, "--dry-run=create-template", "--force"],
    words: /it is the input/,
  },
];

for (const { name, args, words } of REFUSALS) {
  Deno.test(`quantsmith refuses ${name} before any work`, async () => {
    using folder = temporaryFolder();
    const at = files(folder.path);
    const line = args(at, folder.path);
    const kept = [at.shard, at.index, at.config, join(folder.path, "old.json")];
    const before = kept.map((path) => existsSync(path) ? readFileSync(path, "utf8") : null);
    const { code, stderr } = await runCli([...line, "--preset", "none"]);
    assert.equal(code, 1, stderr);
    assert.match(stderr, words);
    assert.deepEqual(
      kept.map((path) => existsSync(path) ? readFileSync(path, "utf8") : null),
      before,
    );
    assert.ok(!existsSync(at.output) && !existsSync(`${at.output}.index.json`));
  });
}

Deno.test("quantsmith replaces an old report with --force, whole", async () => {
  using folder = temporaryFolder();
  const { shard, output } = files(folder.path);
  const report = join(folder.path, "r.json");
  writeFileSync(report, "x".repeat(100_000));
  const { code, stderr } = await runCli([
    ...[shard, output, "--force", "--report", report],
    ...["--preset", "none"],
  ]);
  assert.equal(code, 0, stderr);
  assert.equal(typeof JSON.parse(readFileSync(report, "utf8")), "object");
});
