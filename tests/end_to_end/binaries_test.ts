/**
 * The single binaries, built and run. Bun comes from the PATH or from npm, the runtime part of `deno
 * compile` from Deno's host or `DENORT_BIN`: if one cannot be had, its tests are ignored, and say so.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { VERSION } from "../../src/cli/version.ts";
import { binaryPath, hostTarget, LEAST_PERMISSIONS } from "../../scripts/support/binaries.ts";
import { findBun } from "../../scripts/support/find_bun.ts";
import { kernelHash, Stage } from "../../scripts/support/stage.ts";
import { everyMethod, writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { untilBegun } from "../support/until_begun.ts";
import { runCli } from "../support/run_cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = temporaryFolder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());

const bun = findBun();
const bunBinary = binaryPath(folder.path, "quantsmith-bun", hostTarget());
const denoBinary = binaryPath(folder.path, "quantsmith", hostTarget());
const metafile = join(folder.path, "inside.json");

/** Runs a build script. */
function build(script: string, flags: readonly string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, ["run", "-A", script, "--out", folder.path, ...flags], {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1", ...env },
  });
}

const denoBuild = build("scripts/compile.ts", []);
const bunBuild = bun === null ? null : build("scripts/compile_bun.ts", ["--metafile", metafile]);
const hasDenort = !/cannot be downloaded/.test(denoBuild.stderr);
if (bun === null) console.warn("ignored: tests of Bun's binary, as Bun cannot be had");
if (!hasDenort) console.warn("ignored: tests of Deno's binary, as denort cannot be downloaded");

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function runBinary(binary: string, args: readonly string[]): Run {
  const { status, stdout, stderr } = spawnSync(binary, args, {
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { code: status, stdout, stderr };
}

/** The tests that every binary meets. */
function testBinary(kind: string, binary: string, ignore: boolean): void {
  Deno.test({
    name: `the ${kind} binary prints help, and a version with commit and kernels`,
    ignore,
    fn() {
      const help = runBinary(binary, ["--help"]);
      assert.equal(help.code, 0, help.stderr);
      assert.match(help.stdout, /Usage:\n {2}quantsmith SRC/);
      const { stdout } = runBinary(binary, ["--version"]);
      const pattern = /^quantsmith (\S+) \(commit (?:[0-9a-f]{12}\+?|unknown), kernels (\S+)\)\n$/;
      const [, version, kernels] = pattern.exec(stdout) ?? assert.fail(stdout);
      assert.equal(version, VERSION);
      assert.equal(kernels, kernelHash(ROOT));
    },
  });

  Deno.test({
    name: `the ${kind} binary converts, verifies and inspects`,
    ignore,
    fn() {
      using place = temporaryFolder();
      const input = join(place.path, "model.safetensors");
      writeSmallModel(input);
      const converted = runBinary(binary, [input, "--verify", "--workers", "2"]);
      assert.equal(converted.code, 0, converted.stderr);
      assert.match(converted.stderr, /loads in stock ComfyUI/);
      const output = readdirSync(place.path).find((name) => name.includes("_int8_"))!;
      const verified = runBinary(binary, ["verify", join(place.path, output), "--json"]);
      assert.equal(verified.code, 0, verified.stderr);
      assert.equal(JSON.parse(verified.stdout).loads, true);
      const inspected = runBinary(binary, ["inspect", join(place.path, output), "--json"]);
      assert.deepEqual(JSON.parse(inspected.stdout).quantized, { int8_tensorwise: 2 });
      const back = join(place.path, "back.safetensors");
      assert.equal(runBinary(binary, ["dequantize", join(place.path, output), back]).code, 0);
      assert.ok(existsSync(back));
    },
  });

  Deno.test({
    name: `the ${kind} binary exits 1 for a failure, 2 for a wrong command line`,
    ignore,
    fn() {
      const failed = runBinary(binary, ["inspect", join(folder.path, "nowhere.safetensors")]);
      assert.equal(failed.code, 1);
      assert.match(failed.stderr, /^error: Cannot open .*\n$/);
      const misspelled = runBinary(binary, ["m.safetensors", "--simpel"]);
      assert.equal(misspelled.code, 2);
      assert.match(misspelled.stderr, /nearest is --simple/);
    },
  });

  Deno.test({
    name: `the ${kind} binary leaves no half file when it is interrupted and exits 130`,
    ignore: ignore || process.platform === "win32",
    async fn() {
      using place = temporaryFolder();
      const input = join(place.path, "model.safetensors");
      const tensors = Array.from({ length: 12 }, (_, i) =>
        tensorOf(
          `blocks.${i}.lin.weight`,
          "BF16",
          [4096, 1024],
          new Uint16Array(4096 * 1024).fill(0x3f80 + i),
        ));
      writeModel(input, tensors);
      // Deno's node:child_process takes an exit code of 130 for a death by signal: not so its own API.
      const child = new Deno.Command(binary, {
        args: [input, join(place.path, "o.safetensors"), "--convrot", "256"],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      await untilBegun(place.path, child);
      child.kill("SIGINT");
      assert.equal((await child.status).code, 130);
      assert.deepEqual(readdirSync(place.path), ["model.safetensors"]);
    },
  });

  Deno.test({
    name: `the ${kind} binary writes the bytes of \`deno run\` in every method`,
    ignore,
    async fn(t) {
      using place = temporaryFolder();
      const input = join(place.path, "model.safetensors");
      const data = join(place.path, "calibration.safetensors");
      writeSmallModel(input);
      writeCalibration(data);
      for (const [i, method] of everyMethod(data).entries()) {
        const name = method.map((word) => word === data ? "DATA" : word).join(" ") || "(default)";
        await t.step(name, async () => {
          const here = join(place.path, `${i}_here.safetensors`);
          const there = join(place.path, `${i}_there.safetensors`);
          const expected = await runCli([input, here, ...method]);
          assert.equal(expected.code, 0, expected.stderr);
          const { code, stderr } = runBinary(binary, [input, there, ...method]);
          assert.equal(code, 0, stderr);
          assert.doesNotMatch(expected.stderr, /nothing will be quantized/);
          assert.deepEqual(bytesOfFile(there), bytesOfFile(here));
        });
      }
    },
  });
}

testBinary("Bun", bunBinary, bun === null);
testBinary("Deno", denoBinary, !hasDenort);

Deno.test({
  name: "compile_bun builds what it says, with a checksum",
  ignore: bun === null,
  fn() {
    assert.equal(bunBuild?.status, 0, bunBuild?.stderr ?? "");
    const sums = readFileSync(join(folder.path, "SHA256SUMS"), "utf8");
    assert.match(sums, new RegExp(`^[0-9a-f]{64}  quantsmith-bun-${hostTarget()}`, "m"));
  },
});

Deno.test({
  name: "compile_bun embeds workers and kernels, and nothing of tests, scripts and their packages",
  ignore: bun === null,
  fn() {
    const inside = Object.keys(JSON.parse(readFileSync(metafile, "utf8")).inputs);
    for (const name of ["main.ts", "src/run/workers/worker.ts", "kernels.wasm.b64"]) {
      assert.ok(inside.some((path) => path.endsWith(name)), name);
    }
    const foreign = /(^|\/)(tests|scripts|asm)\/(?!.*node_modules)|assemblyscript|fast-check/;
    assert.deepEqual(
      inside.filter((path) => foreign.test(path.replace(/.*node_modules\//, ""))),
      [],
    );
  },
});

Deno.test(
  "compile says plainly if the runtime part cannot be had",
  { ignore: hasDenort },
  () => {
    assert.equal(denoBuild.status, 1);
    assert.match(denoBuild.stderr, /^Cannot build .*denort in it by DENORT_BIN/m);
  },
);

Deno.test("compile honours DENORT_BIN and embeds what is shipped only", () => {
  using place = temporaryFolder();
  // Deno itself may stand for its runtime part as long as the result is not run.
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["run", "-A", "scripts/compile.ts", "--out", place.path],
    {
      cwd: ROOT,
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1", DENORT_BIN: process.execPath },
    },
  );
  assert.equal(status, 0, stderr);
  const embedded = `${stdout}${stderr}`;
  for (const name of ["main.ts", "src", "valibot", "@huggingface"]) {
    assert.match(embedded, new RegExp(`[─┬] ${name}`), name);
  }
  assert.doesNotMatch(embedded, /─ (tests|scripts|asm|node_modules|assemblyscript|fast-check)\b/);
  const binary = readFileSync(binaryPath(place.path, "quantsmith", hostTarget()));
  // The printed list stops at folders if there are many files; the binary's own does not.
  for (const name of ["worker.ts", "gpu_owner.ts", "fetch_thread.ts", "wasm_kernels.ts"]) {
    assert.ok(binary.includes(`"${name}"`), name);
  }
  for (const name of ["binaries_test.ts", "compile.ts", "fast-check"]) {
    assert.ok(!binary.includes(`"${name}"`), name);
  }
  const at = binary.indexOf('"permissions":{');
  assert.ok(at > 0, "no permissions are baked in");
  const [, allowed] = /^"permissions":(\{.*?\})/.exec(binary.toString("latin1", at, at + 4096))!;
  // An empty list is all of a kind, null nothing; what may be imported is Deno's default.
  const { prompt, allow_import: _, ...given } = JSON.parse(allowed!);
  assert.equal(prompt, false);
  const wanted = LEAST_PERMISSIONS.map((flag) => {
    const [name, values] = flag.replace("--", "").replace("-", "_").split("=");
    return [name, values?.split(",") ?? []];
  });
  const granted = Object.entries(given).filter(([, values]) => values !== null);
  assert.deepEqual(Object.fromEntries(granted), Object.fromEntries(wanted));
});

Deno.test({
  name: "mod.ts works as a library on Bun",
  ignore: bun === null,
  fn() {
    using stage = new Stage();
    stage.installPackages();
    const input = join(stage.path, "model.safetensors");
    writeSmallModel(input);
    const script = join(stage.path, "use.ts");
    writeFileSync(
      script,
      `import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import * as qs from "./mod.ts";

const input = ${JSON.stringify(input)};
const { output, layers } = await qs.convertToInt8({ input, outputPath: "./int8.safetensors" });
using loader = new qs.UnifiedSafetensorsLoader(output);
assert.equal(loader.keys().filter((name) => name.endsWith("weight_scale")).length, layers.length);

const rows = 64, cols = 64, data = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i));
const hessian = Float64Array.from({ length: cols * cols }, (_, i) => i % (cols + 1) === 0 ? 2 : 1);
const reporter = new qs.QualityReporter({ thresholdDb: 30 });
for (const converter of [
  new qs.GPTQInt8Converter(),
  new qs.QuIPInt8Converter({ storeTransformed: true }),
  new qs.LearnedRoundingConverter({ scaling: "row", iterations: 5, minDirections: 4 }),
]) {
  const { dequantized, ...stored } = converter.convert({ data, rows, cols }, { hessian });
  assert.equal(qs.quipInt8Matmul(data.subarray(0, cols), { ...stored, scales: stored.scale }).length, rows);
  reporter.addLayer(converter.constructor.name, data, dequantized);
}
assert.equal(reporter.report().layers.filter(({ isLow }) => isLow).length, 0);
const tensor = qs.QuantizedTensor.fromFloat(data, "int8_tensorwise", { rows, cols });
assert.equal(tensor.dequantize().length, rows * cols);

const lora = { loraA: new Float32Array(cols).fill(1), loraB: new Float32Array(rows).fill(2), rank: 1 };
assert.equal(qs.mergeLoraIntoWeight(data, lora)[0], Math.fround(data[0] + 2));
assert.equal(qs.mergeMultipleLoras(data, [lora, lora]).length, rows * cols);
writeFileSync("layers.json", '{"double": {"format": "fp16"}}');
assert.equal(qs.loadLayerConfig("layers.json").patterns.length, 1);
console.log(layers.length);
`,
    );
    const { status, stdout, stderr } = spawnSync(bun!, ["run", script], {
      cwd: stage.path,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    assert.equal(stdout, "2\n");
  },
});
