/** `--codebook fit`: tables of levels that are fitted to weights. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { DEFAULT_CODEBOOK } from "../../src/quant/level_grid.ts";
import { seededFloats } from "../lora/floats.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const ROWS = 96, COLS = 512, NAMES = ["blocks.0.lin", "blocks.1.lin", "blocks.2.lin"];
const FIT = ["--format", "w4a8", "--codebook", "fit"];

function writeWeights(path: string): void {
  writeModel(
    path,
    NAMES.map((name, k) =>
      tensorOf(
        `${name}.weight`,
        "BF16",
        [ROWS, COLS],
        Uint16Array.from(seededFloats(ROWS * COLS, k + 5), f32ToBf16),
      )
    ),
  );
}

/** Converts without a preset; returns the events. */
async function convert(...args: readonly string[]): Promise<Record<string, unknown>[]> {
  const words = [...args, "--preset", "none", "--device", "cpu", "--force", "--json"];
  const { code, stdout, stderr } = await runCli(words);
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

function tableOf(path: string, layer = NAMES[0]!): Float32Array {
  const { dtype, shape, data } = readModel(path).get(`${layer}.weight_codebook`)!;
  assert.deepEqual([dtype, shape], ["F32", [16]]);
  return new Float32Array(data.slice().buffer);
}

const isDefault = (table: Float32Array) =>
  table.every((value, i) => value === Math.fround(DEFAULT_CODEBOOK[i]!));

Deno.test("--codebook fit writes a table per weight, finite and ascending, that loses less", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  writeWeights(at("m"));
  const group = ["--group-size", "64"];
  const plain = await convert(at("m"), at("plain"), "--format", "w4a8", ...group);
  const fitted = await convert(at("m"), at("fit"), ...FIT, ...group);
  const errorOf = (events: Record<string, unknown>[]) =>
    (events.at(-1)!["quality"] as { relative_error: number }).relative_error;
  const ratio = errorOf(fitted) / errorOf(plain);
  assert(ratio < 0.995, `${ratio}`);
  assert(isDefault(tableOf(at("plain"))));
  const tables = NAMES.map((name) => tableOf(at("fit"), name));
  for (const table of tables) {
    assert(!isDefault(table));
    assert(table.every((value, i) => Number.isFinite(value) && !(value <= table[i - 1]!)));
  }
  assert.notDeepEqual(tables[0], tables[1]);
  const { code, stdout } = await runCli(["verify", at("fit"), "--source", at("m")]);
  assert.equal(code, 0, stdout);
});

Deno.test("--codebook fit writes the same bytes with any workers, in parts, and by a config", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  writeWeights(at("m"));
  await convert(at("m"), at("one"), ...FIT, "--workers", "1");
  await convert(at("m"), at("two"), ...FIT, "--workers", "2");
  const want = bytesOfFile(at("one"));
  assert.deepEqual(bytesOfFile(at("two")), want);
  for (const part of ["1/2", "2/2"]) await convert(at("m"), at("parts"), ...FIT, "--part", part);
  const joined = await runCli(["join", at("parts")]);
  assert.equal(joined.code, 0, joined.stderr);
  assert.deepEqual(bytesOfFile(at("parts")), want);
  const config = join(folder.path, "l.json");
  writeFileSync(config, JSON.stringify({ ".*": { format: "w4a8", codebook: "fit" } }));
  await convert(at("m"), at("config"), "--layer-config", config);
  assert.deepEqual(bytesOfFile(at("config")), want);
  const custom = ["--custom-layers", ".*", "--custom-type", "w4a8", "--codebook", "fit"];
  await convert(at("m"), at("custom"), ...custom);
  assert.deepEqual(bytesOfFile(at("custom")), want);
});

Deno.test("--codebook fit is refused if the format has no table", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeWeights(at("m.safetensors"));
  const config = (name: string, entry: object) => {
    writeFileSync(at(name), JSON.stringify({ ".*": entry }));
    return ["--layer-config", at(name)];
  };
  const cases: (readonly [readonly string[], RegExp])[] = [
    [["--codebook", "fit"], /--codebook fit with --format int8: only w4a8 has a table/],
    [["--codebook", "fit", "--format", "w6a8"], /--codebook fit with --format w6a8: only w4a8/],
    [["--codebook", "own", "--format", "w4a8"], /own/],
    [
      config("a.json", { format: "w6a8", codebook: "fit" }),
      /codebook "fit" needs format w4a8, w6a8 has no/,
    ],
    [
      config("b.json", { format: "w4a8", codebook: 3 }),
      /"codebook".*one of default, fit is needed/,
    ],
  ];
  for (const [args, message] of cases) {
    const words = [at("m.safetensors"), at("o.safetensors"), "--preset", "none", ...args];
    const { code, stderr } = await runCli(words);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});
