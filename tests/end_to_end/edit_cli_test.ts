import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { encode, int8Layer, markerTensor, randomValues } from "../support/encode.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const VALUES = randomValues(64 * 64);

/** A quantized file of two layers, the second in blocks if `blocks` is set. */
function writeQuantized(path: string, { blocks = false } = {}): void {
  const first = int8Layer("blocks.0.attn", VALUES, { rows: 64, cols: 64 }).tensors;
  const tiles = encode(VALUES, { rows: 64, cols: 64, groupRows: 32, groupCols: 32 });
  const second = blocks
    ? [
      tensorOf("blocks.1.attn.weight", "I8", [64, 64], tiles.codes),
      tensorOf("blocks.1.attn.weight_scale", "F32", [2, 2], tiles.scales),
      markerTensor("blocks.1.attn", { format: "int8_blockwise", group_size: 32 }),
    ]
    : int8Layer("blocks.1.attn", VALUES, { rows: 64, cols: 64 }).tensors;
  writeModel(path, [...first, ...second], { config: "{}" });
}

const events = (stdout: string) =>
  stdout.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);

Deno.test("edit and --edit-quant write the same file, in either spelling of the flags", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeQuantized(at("m.safetensors"));
  const named = await runCli([
    "edit",
    at("m.safetensors"),
    "--add-keys",
    "'full_precision_matrix_mult': true",
    "--quant_filter=blocks\\.0",
    "--remove_keys",
    "blocks.1.attn.weight_scale",
    "--save-quant-metadata",
    "--json",
  ]);
  assert.equal(named.code, 0, named.stderr);
  const told = events(named.stdout);
  assert.deepEqual(told.map(({ event }) => event), ["start", "change", "change", "change", "done"]);
  assert.match(named.stderr, /blocks\.1\.attn: scale-missing/, "the harm is foretold");
  const documented = await runCli([
    "-i",
    at("m.safetensors"),
    "-o",
    at("documented.safetensors"),
    "--edit-quant",
    "--add_keys",
    '"full_precision_matrix_mult": True',
    "--quant-filter",
    "blocks\\.0",
    "--remove-keys",
    "blocks.1.attn.weight_scale",
    "--save-quant-metadata",
    "--simple",
  ]);
  assert.equal(documented.code, 0, documented.stderr);
  assert.match(documented.stderr, /--simple has no effect with --edit-quant/);
  const edited = at("m_edited.safetensors");
  assert.deepEqual(bytesOfFile(at("documented.safetensors")), bytesOfFile(edited));
  const marker = readModel(edited).get("blocks.0.attn.comfy_quant")!;
  assert.equal(
    new TextDecoder().decode(marker.data),
    '{"format": "int8_tensorwise", "full_precision_matrix_mult": true}',
  );
});

Deno.test("edit --dry-run reports the changes and writes nothing", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeQuantized(input);
  const args = ["edit", input, "--remove-keys", ".weight_scale", "--dry-run"];
  const text = await runCli(args);
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /2 selected[\s\S]*tensor removed/);
  const json = JSON.parse((await runCli([...args, "--json"])).stdout);
  assert.deepEqual([json.changes.length, json.totals.tensors, json.problems.length], [2, 4, 2]);
  assert.deepEqual(readdirSync(folder.path), ["m.safetensors"]);
});

Deno.test("migrate writes what verify accepts, with the error of what was rounded again", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeQuantized(input, { blocks: true });
  assert.equal((await runCli(["verify", input])).code, 1);
  const dry = await runCli(["migrate", input, "--dry-run", "--json"]);
  assert.equal(JSON.parse(dry.stdout).requantized, 1, dry.stderr);
  const run = await runCli(["migrate", input, "--json"]);
  assert.equal(run.code, 0, run.stderr);
  const told = events(run.stdout);
  const [tensor] = told.filter(({ event }) => event === "tensor");
  const sqnr = (tensor!["errors"] as { sqnr_db: number }).sqnr_db;
  assert(sqnr > 30 && sqnr < 60, `${sqnr}`);
  const done = told.at(-1)!;
  assert.deepEqual([done["exact"], done["requantized"], done["untouched"]], [0, 1, 1]);
  const output = join(folder.path, "m_migrated.safetensors");
  assert.equal((await runCli(["verify", output])).code, 0);
  const again = await runCli(["migrate", output]);
  assert.equal(again.code, 0);
  assert.match(again.stderr, /loads in stock ComfyUI as it is: no file was written/);
});

Deno.test("edit and migrate refuse bad command lines and outputs, and write nothing", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeQuantized(input);
  const before = bytesOfFile(input);
  const add = ["--add-keys", "x: 1"];
  const cases: (readonly [readonly string[], number, RegExp])[] = [
    [["edit", input], 2, /Nothing to edit/],
    [["edit", input, "--remove-keys", "nonesuch"], 2, /Cannot remove "nonesuch"/],
    [["edit", input, "--add-keys", "x: y"], 2, /character 4: "y" is no value/],
    [["edit", input, ...add, "--quant-filter", "("], 2, /--quant-filter/],
    [["edit", input, ...add, "--quant-filter="], 2, /empty/],
    [["edit", input, ...add, "--remove-keys", "x"], 2, /remove and add the key "x"/],
    [["edit", input, ...add, "--no-comfy-quant"], 2, /--no-comfy-quant/],
    [["edit", input, ...add, "--dry-run=create-template"], 2, /create-template/],
    [["edit", input, input, ...add, "--force"], 1, /it is the input/],
    [["edit", input, "--simple", ...add], 2, /--simple.*belongs to a conversion/],
    [["edit", ...add], 2, /Missing model: `quantsmith edit/],
    [["migrate", join(folder.path, "none.safetensors")], 1, /no such file/],
    [["migrate", input, "--add-keys", "x: 1"], 2, /--add-keys.*belongs to/],
  ];
  for (const [args, code, message] of cases) {
    const run = await runCli(args);
    assert.equal(run.code, code, `${args.join(" ")}: ${run.stderr}`);
    assert.match(run.stderr, message);
  }
  const output = join(folder.path, "out.safetensors");
  writeModel(output, [tensorOf("x", "U8", [1], new Uint8Array(1))]);
  const existing = await runCli(["edit", input, output, ...add]);
  assert.equal(existing.code, 1);
  assert.match(existing.stderr, /it exists; `--force` replaces it/);
  assert.equal((await runCli(["edit", input, output, ...add, "--force"])).code, 0);
  assert.deepEqual(bytesOfFile(input), before);
  assert(existsSync(output));
  assert.deepEqual(readdirSync(folder.path).sort(), ["m.safetensors", "out.safetensors"]);
});
