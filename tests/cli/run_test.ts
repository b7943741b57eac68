import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import manifest from "../../deno.json" with { type: "json" };
import { VERSION } from "../../src/cli/version.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** Runs the program. */
async function quantsmith(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", MAIN, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return {
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

Deno.test("VERSION is the version of deno.json", () => {
  strictEqual(VERSION, manifest.version);
});

Deno.test("run() exits 2 with one line on stderr for a wrong command line", async () => {
  const lines: readonly (readonly [string[], RegExp])[] = [
    [["--simpel", "m.safetensors"], /^error: Unknown flag --simpel: the nearest is --simple\n$/],
    [
      ["m.safetensors", "--optimizer=quip", "--quip-store-transformed", "--no-quip-hadamard"],
      /^error: Cannot use --no-quip-hadamard with --quip-store-transformed.*\n$/,
    ],
    [["m.safetensors", "--int8", "--fp16"], /^error: Cannot use --int8 with --fp16.*\n$/],
    [["m.safetensors", "--dry-run", "analize"], /^error: .*the nearest is analyze\n$/],
    [["-input", "m.safetensors"], /^error: Unknown flag -input: the nearest is --input\n$/],
    [["help", "verfy"], /^error: .*the nearest is verify\n$/],
    [
      ["m.safetensors", "--no-memory-limits", "--memory-limit=1GB"],
      /^error: Cannot use --no-memory-limits with --memory-limit.*\n$/,
    ],
    [["presets", "detekt"], /^error: .*detect.*\n$/],
  ];
  for (const [args, pattern] of lines) {
    const { code, stdout, stderr } = await quantsmith(...args);
    strictEqual(code, 2, stderr);
    strictEqual(stdout, "");
    match(stderr, pattern);
  }
});

Deno.test("run() prints help and version on stdout, even beside a wrong flag", async () => {
  const help = await quantsmith("--help");
  strictEqual(help.code, 0);
  ok(help.stdout.includes("quantsmith model.safetensors"));
  const mixed = await quantsmith("--nonsense", "-he");
  strictEqual(mixed.code, 0);
  ok(mixed.stdout.includes("--[no-]gptq-turbo"));
  deepStrictEqual(await quantsmith("--version"), {
    code: 0,
    stdout: `quantsmith ${VERSION}\n`,
    stderr: "",
  });
});

Deno.test("run() prints a short usage and exits 2 if nothing is asked for", async () => {
  const { code, stdout, stderr } = await quantsmith();
  strictEqual(code, 2);
  strictEqual(stdout, "");
  match(stderr, /^Usage: quantsmith SRC/);
});

Deno.test("run() takes `help SUBCOMMAND` for `SUBCOMMAND --help`", async () => {
  const asked = await quantsmith("help", "verify");
  strictEqual(asked.code, 0);
  deepStrictEqual(asked, await quantsmith("verify", "--help"));
});

Deno.test("run() reports causes and the stack under --verbose DEBUG only", async () => {
  const plain = await quantsmith("/nowhere/m.safetensors");
  strictEqual(plain.code, 1);
  strictEqual(plain.stderr.trimEnd().split("\n").length, 1, plain.stderr);
  const debug = await quantsmith("/nowhere/m.safetensors", "--verbose", "DEBUG");
  strictEqual(debug.code, 1);
  match(debug.stderr, /\n\s+at /);
});

Deno.test("presets detect --json prints exactly the stable shape", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/model.safetensors`;
  writeModel(path, [tensorOf("a.weight", "F32", [2, 2], new Float32Array(4))]);
  const { code, stdout, stderr } = await quantsmith("presets", "detect", path, "--json");
  strictEqual(code, 0, stderr);
  deepStrictEqual(JSON.parse(stdout), {
    family: null,
    prefix: "",
    layout: "unknown",
    evidence: [],
  });
});

Deno.test("verify says that --quality-threshold has no effect without --source", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/model.safetensors`;
  writeModel(path, [tensorOf("a.weight", "F32", [2, 2], new Float32Array(4))]);
  const { code, stderr } = await quantsmith("verify", path, "--quality-threshold", "20");
  strictEqual(code, 0, stderr);
  match(stderr, /^warning: --quality-threshold has no effect without --source$/m);
});

Deno.test("run() exits 1 and changes nothing if a conversion is refused", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/model.safetensors`;
  writeModel(path, [tensorOf("a.weight", "F32", [64, 64], new Float32Array(4096).fill(1))]);
  const before = bytesOfFile(path);
  const { code, stderr } = await quantsmith(path, path, "--force", "--allow-copy");
  strictEqual(code, 1);
  match(stderr, /^error: .*it is the input.*\n$/);
  deepStrictEqual(bytesOfFile(path), before);
});

Deno.test("run() exits 1 if nothing would be quantized, unless a copy is asked for", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/model.safetensors`, output = `${folder.path}/out.safetensors`;
  writeModel(path, [tensorOf("a.bias", "F32", [64], new Float32Array(64).fill(1))]);
  const refused = await quantsmith(path, output);
  strictEqual(refused.code, 1);
  match(refused.stderr, /^error: .*nothing in it would be quantized: .*--allow-copy.*\n$/);
  ok(!existsSync(output));
  const copied = await quantsmith(path, output, "--allow-copy");
  strictEqual(copied.code, 0, copied.stderr);
  match(copied.stderr, /warning: nothing will be quantized: the output is a copy/);
});

Deno.test("run() exits 2 and writes nothing for a pattern that matches no layer", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/model.safetensors`, output = `${folder.path}/out.safetensors`;
  writeModel(path, [tensorOf("a.q.weight", "F32", [64, 64], new Float32Array(4096).fill(1))]);
  for (const flag of ["--exclude-layers", "--custom-layers", "--report-layers"]) {
    const lines = [path, output, "--preset=none", flag, "a.k", `--report=${folder.path}/r.html`];
    const { code, stderr } = await quantsmith(...lines);
    strictEqual(code, 2, stderr);
    match(
      stderr,
      new RegExp(`error: Cannot use ${flag}: none of .* "a\\.k" \\(the nearest is "a\\.q`),
    );
    ok(!existsSync(output));
  }
  const { stderr, code } = await quantsmith(
    path,
    output,
    "--preset=none",
    "--exclude-layers",
    "q$",
  );
  strictEqual(code, 1, stderr);
  match(stderr, /nothing in it would be quantized/);
});

Deno.test("run() is quiet if its output is not read any more", async () => {
  const command = `"${Deno.execPath()}" run -A --quiet --no-check "${MAIN}" --help | true`;
  const { stderr, code } = await new Deno.Command("bash", {
    args: ["-c", `set -o pipefail; ${command}`],
  }).output();
  strictEqual(new TextDecoder().decode(stderr), "");
  strictEqual(code, 0);
});
