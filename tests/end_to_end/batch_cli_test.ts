import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededFloats } from "../lora/floats.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli, startCli } from "../support/run_cli.ts";

const LAYER = "double_blocks.0.img_attn.proj";

/** A layer that is quantized and one that is too small; `seed` makes models differ. */
function writeFlux(path: string, seed = 1, size = 256): void {
  writeModel(path, [
    tensorOf(`${LAYER}.weight`, "F32", [size, size], seededFloats(size * size, seed)),
    tensorOf("double_stream_modulation_img.lin.weight", "F32", [64, 64], seededFloats(4096, seed)),
  ]);
}

function writeLora(path: string): void {
  writeModel(path, [
    tensorOf(`diffusion_model.${LAYER}.lora_A.weight`, "F32", [2, 256], seededFloats(512, 8)),
    tensorOf(`diffusion_model.${LAYER}.lora_B.weight`, "F32", [256, 2], seededFloats(512, 9)),
  ]);
}

const OUT = "_int8_row_convrot256_mse.safetensors";
const OUT_LORA = "_lora_int8_row_convrot256_mse.safetensors";

interface BatchEvent {
  readonly event: string;
  readonly input?: string;
  readonly [key: string]: unknown;
}

function eventsOf(stdout: string): BatchEvent[] {
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("quantsmith batch converts every model as a single conversion would, and skips all of them in a second run", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  mkdirSync(at("alone"));
  writeFlux(at("a.safetensors"), 1);
  writeFlux(at("b.safetensors"), 2);
  const first = await runCli(["batch", "-d", folder.path, "-y", "--no-progress", "--workers", "2"]);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /converted .*a\.safetensors -> .*a_int8/);
  assert.match(first.stdout, /2 models: 2 converted\n/);
  for (const name of ["a", "b"]) {
    assert.equal(
      (await runCli([at(`${name}.safetensors`), at("alone/one.safetensors"), "--force"])).code,
      0,
    );
    assert.deepEqual(
      bytesOfFile(at(`${name}${OUT}`)),
      bytesOfFile(at("alone/one.safetensors")),
      name,
    );
  }
  const again = await runCli(["batch", "-d", folder.path, "-y"]);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /4 models: 0 converted, 4 skipped/);
  assert.match(again.stdout, /skipped .*a\.safetensors: its output .* exists/);
  assert.match(again.stdout, /skipped .*a_int8.*: it is the output of|already quantized/);
});

Deno.test("quantsmith batch continues after a model that fails, reports it in the table and exits 1", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFileSync(at("a.safetensors"), "GGUF, not safetensors");
  const values = seededFloats(65536, 1);
  values[7] = NaN;
  writeModel(at("b.safetensors"), [tensorOf(`${LAYER}.weight`, "F32", [256, 256], values)]);
  writeFlux(at("c.safetensors"));
  const { code, stdout } = await runCli(["batch", "-d", folder.path, "-y", "--json"]);
  assert.equal(code, 1);
  const events = eventsOf(stdout);
  assert.equal(events[0]!.event, "batch");
  const files = events.filter(({ event }) => event === "file");
  assert.deepEqual(files.map(({ outcome }) => outcome), ["failed", "failed", "converted"]);
  assert.match(String(files[0]!["reason"]), /GGUF/);
  assert.match(String(files[1]!["reason"]), /NaN.*first at index 7/);
  assert.deepEqual(events.at(-1), {
    event: "batch_done",
    converted: 1,
    skipped: 0,
    failed: 2,
    interrupted: 0,
    not_begun: 0,
  });
  assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("b_")), []);
});

Deno.test("quantsmith batch merges the LoRAs of a mapping and a folder into the models they are meant for", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  mkdirSync(at("loras"));
  mkdirSync(at("alone"));
  for (const name of ["flux_one", "two", "three"]) writeFlux(at(`${name}.safetensors`));
  writeLora(at("loras/style.safetensors"));
  writeLora(at("loras/two_lora.safetensors"));
  writeFileSync(at("map.json"), JSON.stringify({ flux: "loras/style.safetensors", other: "x" }));
  const { code, stderr } = await runCli([
    "batch",
    "-d",
    folder.path,
    "--lora-mapping",
    at("map.json"),
    "--lora-dir",
    at("loras"),
    "--merge-lora-scale",
    "0.5",
    "-y",
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /entry "other" of .* is meant for no model/);
  assert.ok(!/changes? nothing/.test(stderr), stderr);
  const weight = (name: string) => readModel(at(name)).get(`${LAYER}.weight`)!.data;
  const single = await runCli([
    at("three.safetensors"),
    at("alone/one.safetensors"),
    "--merge-lora",
    at("loras/style.safetensors"),
    "--merge-lora-scale=0.5",
  ]);
  assert.equal(single.code, 0, single.stderr);
  assert.deepEqual(weight(`flux_one${OUT_LORA}`), weight("alone/one.safetensors"));
  assert.deepEqual(weight(`two${OUT_LORA}`), weight("alone/one.safetensors"));
  assert.notDeepEqual(weight(`three${OUT}`), weight("alone/one.safetensors"));
});

Deno.test("quantsmith batch --dry-run-batch says what would be done and writes nothing", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFlux(at("a.safetensors"));
  writeLora(at("style.safetensors"));
  writeFileSync(at("map.json"), JSON.stringify({ a: "style.safetensors" }));
  mkdirSync(at("out"));
  const args = ["batch", "-d", folder.path, "--lora-mapping", at("map.json"), "--dry-run-batch"];
  const { code, stdout } = await runCli([...args, "--output-dir", at("out")]);
  assert.equal(code, 0);
  assert.match(stdout, /^convert .*a\.safetensors \+ .*style\.safetensors -> .*out.*a_lora_int8/);
  assert.match(stdout, /skip .*style\.safetensors: it is a LoRA that is merged/);
  assert.deepEqual(readdirSync(at("out")), []);
});

Deno.test("quantsmith batch refuses what contradicts itself before any work, exit 2", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  mkdirSync(at("x"));
  for (const name of ["a.safetensors", "x/a.safetensors"]) writeFlux(at(name));
  writeFileSync(at("map.json"), JSON.stringify({ a: "missing.safetensors" }));
  const a = at("a.safetensors");
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["batch"], /Missing models/],
    [["batch", a], /-y proceeds without asking/],
    [["batch", a, "-y", "-o", at("o.st")], /every model gets a file of its own/],
    [["batch", a, "-y", "--report", "r.json"], /Cannot use --report/],
    [["batch", a, "-y", "--int8", "--fp16"], /choose one/],
    [["batch", a, "-y", "--output-dir", at("nowhere")], /no such folder/],
    [["batch", a, at("x/a.safetensors"), "-y", "--output-dir", at("x")], /both would become/],
    [["batch", a, "-y", "--lora-mapping", at("map.json")], /entry "a".*no such file; looked for/],
    [["batch", a, "-y", "--lora-mapping", at("no.json")], /there is no such file/],
    [["batch", a, "-y", "--lora-dir", at("x"), "--merge-lora", "l"], /into every model/],
    [[a, "--yes"], /it belongs to batch/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await runCli(args);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, message);
  }
  assert.deepEqual(readdirSync(folder.path).sort(), ["a.safetensors", "map.json", "x"]);
});

Deno.test("quantsmith batch exits 130 when interrupted, keeps what was complete and leaves no half file", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFlux(at("a.safetensors"));
  writeFlux(at("b.safetensors"), 2, 4096);
  writeFlux(at("c.safetensors"), 3);
  const child = startCli(["batch", "-d", folder.path, "-y", "--json", "--workers", "1"]);
  // Interrupted when the second model, of 64 MB, has begun.
  let stdout = "";
  let isInterrupted = false;
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += part;
    if (!isInterrupted && stdout.split('"event":"start"').length > 2) {
      isInterrupted = true;
      child.kill("SIGINT");
    }
  }
  await child.stderr.cancel();
  assert.equal((await child.status).code, 130);
  const files = eventsOf(stdout).filter(({ event }) => event === "file");
  assert.deepEqual(files.map(({ outcome }) => outcome), ["converted", "interrupted", "not_begun"]);
  assert.ok(existsSync(at(`a${OUT}`)));
  assert.deepEqual(readdirSync(folder.path).sort(), [
    "a.safetensors",
    `a${OUT}`,
    "b.safetensors",
    "c.safetensors",
  ]);
});
