/**
 * The npm package: built, packed, installed without a network in an empty folder with an empty home, and run
 * on Node and Bun. The same for the program as one file.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { findBun } from "../../scripts/support/find_bun.ts";
import { InstalledPackage, type Run } from "../support/installed_package.ts";
import { VERSION } from "../../src/core/version.ts";
import { everyMethod, writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { bytesOfFile, temporaryFolder } from "../support/model_files.ts";
import { type Dawn, findDawn } from "../support/dawn.ts";
import { runCli } from "../support/run_cli.ts";
import { writeSyntheticModel } from "../support/synthetic_model.ts";
import { weight } from "../support/synthetic_shapes.ts";

const folder = temporaryFolder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());

const bun = findBun();
if (bun === null) console.warn("ignored: tests of the npm package on Bun, as Bun cannot be had");

const installed = new InstalledPackage(folder.path);
const { place, tarball, bin, oneFile } = installed;
const run = installed.run.bind(installed);
const mustRun = installed.mustRun.bind(installed);

const input = join(folder.path, "model.safetensors");
const data = join(folder.path, "calibration.safetensors");
writeSmallModel(input);
writeCalibration(data);
const methods = everyMethod(data);
/** What Deno writes, by method. */
const expected = new Map<readonly string[], Uint8Array>();

async function expectedBytes(method: readonly string[]): Promise<Uint8Array> {
  const known = expected.get(method);
  if (known !== undefined) return known;
  const file = join(folder.path, `expected${expected.size}.safetensors`);
  const { code, stderr } = await runCli([input, file, ...method]);
  assert.equal(code, 0, stderr);
  expected.set(method, bytesOfFile(file));
  return expected.get(method)!;
}

Deno.test("the npm package needs no other package, and is small to download", () => {
  assert.deepEqual(readdirSync(join(place, "node_modules")).filter((n) => !n.startsWith(".")), [
    "quantsmith",
  ]);
  const manifest = JSON.parse(
    readFileSync(join(place, "node_modules/quantsmith/package.json"), "utf8"),
  );
  assert.equal(manifest.version, VERSION);
  assert.equal(manifest.dependencies, undefined);
  assert.ok(bytesOfFile(tarball).length <= 5e6);
  for (const name of ["README.md", "LICENSE", "THIRD_PARTY_LICENSES"]) {
    assert.ok(existsSync(join(place, "node_modules/quantsmith", name)), name);
  }
});

Deno.test("npx quantsmith prints help and version", () => {
  assert.match(mustRun("npx", ["quantsmith", "--help"]), /Usage:\n {2}quantsmith SRC/);
  assert.match(mustRun("npx", ["quantsmith", "--version"]), new RegExp(`^quantsmith ${VERSION} `));
});

Deno.test("npx quantsmith MODEL writes beside the model, with an empty home that cannot be written to", async () => {
  using models = temporaryFolder();
  writeSmallModel(join(models.path, "m.safetensors"));
  const { code, stderr } = run(process.platform === "win32" ? "npx" : bin, [
    ...(process.platform === "win32" ? ["quantsmith"] : []),
    join(models.path, "m.safetensors"),
  ], { HOME: "/nowhere", USERPROFILE: "/nowhere" });
  assert.equal(code, 0, stderr);
  const written = readdirSync(models.path).filter((name) => name.includes("_int8_"));
  assert.equal(written.length, 1);
  assert.deepEqual(bytesOfFile(join(models.path, written[0]!)), await expectedBytes(methods[0]!));
});

/** Makes Node believe that it has a terminal. */
const TERMINAL = "data:text/javascript," + encodeURIComponent(`
  import tty from "node:tty";
  import { syncBuiltinESMExports } from "node:module";
  tty.isatty = () => true;
  syncBuiltinESMExports();
  const ignored = () => {};
  Object.assign(process.stderr, { isTTY: true, columns: 80, cursorTo: ignored, clearLine: ignored });
`);

Deno.test({
  name: "a conversion on Node asks V8 to keep the heap small, one with calibration data does not",
  // Node below 20.16 cannot be asked.
  ignore: run("node", ["-p", "typeof process.getBuiltinModule"]).stdout.trim() !== "function",
  fn() {
    // Says what flags are set, and sets them.
    const spy = 'import v8 from "node:v8"; const set = v8.setFlagsFromString; ' +
      "v8.setFlagsFromString = (flags) => { console.log(`flags ${flags}`); set(flags); };";
    const convert = (...more: string[]) =>
      mustRun("node", [
        ...["--import", `data:text/javascript,${encodeURIComponent(spy)}`, bin],
        ...[input, join(folder.path, "small_heap.safetensors"), "--force", ...more],
      ]);
    assert.match(convert(), /^flags --optimize-for-size$/m);
    assert.doesNotMatch(convert("--calibration-data", data), /^flags /m);
  },
});

Deno.test("the package and the program as one file draw their progress in a terminal", () => {
  // What draws the bar is loaded at the first progress: there must be more after it.
  const model = join(folder.path, "longer.safetensors");
  writeSyntheticModel(
    model,
    Array.from({ length: 24 }, (_, i) => weight(`blocks.${i}.linear`, 1024, 2048)),
  );
  for (const program of [bin, oneFile]) {
    const out = join(folder.path, "drawn.safetensors");
    const args = ["--import", TERMINAL, program, model, out, "--force"];
    const { code, stderr } = run("node", args, { TERM: "xterm" });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /[\u2588\u2591]{5}/, program);
  }
});

Deno.test("npx quantsmith ui serves the page and its threads until it is interrupted", async () => {
  const child = spawn("node", [bin, "ui", "--no-open"], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  try {
    const line = await new Promise<string>((resolve) =>
      child.stdout.on("data", (data) => resolve(String(data)))
    );
    const url: string = /^http:\/\/127\.0\.0\.1:\d+\//.exec(line)?.[0] ?? "";
    assert.notEqual(url, "", line);
    const page = await (await fetch(url)).text();
    assert.match(page, /<script type="module" src="\.?\/?page\.js">/);
    for (const name of ["page.js", "engine.js", "worker.js", "disk.js", "reader.js"]) {
      const { status, body } = await fetch(url + name);
      assert.equal(status, 200, name);
      await body?.cancel();
    }
  } finally {
    child.kill("SIGINT");
  }
  await ended;
});

Deno.test("quantsmith/browser is a module with types", () => {
  const script = 'console.log(typeof (await import("quantsmith/browser")).convert)';
  assert.equal(mustRun("node", ["--input-type=module", "-e", script]).trim(), "function");
  const { exports } = JSON.parse(
    readFileSync(join(place, "node_modules/quantsmith/package.json"), "utf8"),
  );
  const types = join(place, "node_modules/quantsmith", exports["./browser"].types);
  assert.match(readFileSync(types, "utf8"), /export declare function convert\(/);
});

const runtimes = [
  { runtime: "Node", command: "node", ignore: false },
  { runtime: "Bun", command: bun ?? "", ignore: bun === null },
];
for (const { runtime, command, ignore } of runtimes) {
  for (const [kind, script] of [["npm package", bin], ["one file", oneFile]] as const) {
    Deno.test({
      name: `the ${kind} on ${runtime} writes the bytes of Deno in every method`,
      ignore,
      async fn(t) {
        for (const [i, method] of methods.entries()) {
          const name = method.map((word) => word === data ? "DATA" : word).join(" ");
          await t.step(name || "(default)", async () => {
            const out = join(folder.path, `${runtime}_${kind}_${i}.safetensors`);
            const { code, stderr } = run(command, [script, input, out, ...method]);
            assert.equal(code, 0, stderr);
            assert.deepEqual(bytesOfFile(out), await expectedBytes(method));
          });
        }
      },
    });
  }

  Deno.test({
    name: `the npm package on ${runtime} runs every command`,
    ignore,
    fn() {
      const out = join(folder.path, `${runtime}_commands.safetensors`);
      const back = join(folder.path, `${runtime}_back.safetensors`);
      const report = join(folder.path, `${runtime}.html`);
      mustRun(command, [bin, input, out, "--verify", "--report", report]);
      assert.match(readFileSync(report, "utf8"), /uPlot/);
      const inspected = JSON.parse(mustRun(command, [bin, "inspect", out, "--json"]));
      assert.deepEqual(inspected.quantized, { int8_tensorwise: 2 });
      const verified = mustRun(command, [bin, "verify", out, "--source", input, "--json"]);
      assert.equal(JSON.parse(verified).loads, true);
      mustRun(command, [bin, "dequantize", out, back]);
      assert.equal(JSON.parse(mustRun(command, [bin, "doctor", "--json"])).webgpu, false);
      assert.match(mustRun(command, [bin, "presets", "list"]), /flux/);
      assert.match(mustRun(command, [bin, "completions", "bash"]), /complete -o filenames/);
    },
  });

  Deno.test({
    name: `import { convertToInt8 } from "quantsmith" on ${runtime} writes the same bytes`,
    ignore,
    async fn() {
      const out = join(folder.path, `${runtime}_library.safetensors`);
      const { code, stdout, stderr } = run(command, [
        ...(runtime === "Node" ? ["--input-type=module"] : []),
        "-e",
        `import { convertToInt8 } from "quantsmith";
const { layers } = await convertToInt8({ input: process.argv.at(-2), outputPath: process.argv.at(-1) });
console.log(layers.length);`,
        "--",
        input,
        out,
      ]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, "2\n");
      assert.deepEqual(bytesOfFile(out), await expectedBytes(methods[0]!));
    },
  });
}

Deno.test("the types of the package fit its functions", () => {
  const check = (source: string): Run => {
    writeFileSync(join(place, "use.ts"), source);
    return run(process.execPath, ["check", "--node-modules-dir=manual", "use.ts"]);
  };
  const right = check(
    `import { convertToInt8, type ConvertResult } from "quantsmith";
const result: ConvertResult = await convertToInt8({ input: "a", outputPath: "b", workers: 2 });
export const worst: number | null | undefined = result.layers[0]?.errors.sqnrDb;
`,
  );
  assert.equal(right.code, 0, right.stderr);
  const wrong = check(
    'import { convertToInt8 } from "quantsmith";\nawait convertToInt8({ input: 1 });\n',
  );
  assert.match(wrong.stderr, /number.*not assignable to type 'string'/);
});

Deno.test("an old Node gets one line that names the version needed", () => {
  const pretend = join(folder.path, "pretend.mjs");
  writeFileSync(pretend, 'Object.defineProperty(process.versions, "node", { value: "18.20.4" });');
  for (const script of [bin, oneFile]) {
    const { code, stdout, stderr } = run("node", ["--import", pretend, script, "--help"]);
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /^error: quantsmith needs Node 20\.12 or later, this is 18\.20\.4: .*\n$/);
  }
});

Deno.test("--device gpu on Node runs in Deno, or says how to get it", () => {
  const out = join(folder.path, "gpu.safetensors");
  const node = dirname(mustRun("node", ["-p", "process.execPath"]).trim());
  // A Deno that only says how it was called.
  const bins = join(folder.path, "bins");
  mkdirSync(bins);
  writeFileSync(
    join(bins, "deno"),
    '#!/bin/sh\nif [ "$1" = --version ]; then echo "deno 9.9.9 (stable)"; else echo "$@"; exit 7; fi\n',
    { mode: 0o755 },
  );
  const found = run("node", [bin, input, out, "--device", "gpu"], {
    PATH: [bins, node, "/bin", "/usr/bin"].join(delimiter),
  });
  assert.equal(found.code, 7);
  assert.match(found.stderr, /^Node has no WebGPU: running in Deno 9\.9\.9\n$/);
  assert.match(found.stdout, /^run -A .*lib\/main\.js .*model\.safetensors .* --device gpu\n$/);
  const none = run(join(node, "node"), [bin, input, out, "--device=gpu"], { PATH: "/nowhere" });
  assert.equal(none.code, 1);
  assert.match(
    none.stderr,
    /^error: Cannot use a GPU: Node has no WebGPU.*npm install -g deno.*\n$/,
  );
});

const dawn = findDawn({ installs: false });
if (typeof dawn === "string") console.warn(`ignored: the GPU on Node, as ${dawn}`);

Deno.test({
  name: "--device gpu on Node computes by the package webgpu if it is installed, the same bytes",
  ignore: typeof dawn === "string",
  async fn() {
    const { folder: packages, env } = dawn as Dawn, out = join(folder.path, "dawn.safetensors");
    const beside = join(place, "node_modules/webgpu");
    symlinkSync(join(packages, "node_modules/webgpu"), beside, "junction");
    try {
      const args = [input, out, "--device", "gpu", "--json"];
      const { code, stdout, stderr } = run("node", [bin, ...args], { ...env, PATH: nodeOnly() });
      assert.equal(code, 0, stderr);
      const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
      const { gpu } = events.find(({ event }) => event === "done");
      assert.equal(gpu.failure, null);
      assert(gpu.operations > 0);
      assert.deepEqual(bytesOfFile(out), await expectedBytes([]));
    } finally {
      unlinkSync(beside);
    }
  },
});

/** A PATH without Deno. */
function nodeOnly(): string {
  return [dirname(mustRun("node", ["-p", "process.execPath"]).trim()), "/bin"].join(delimiter);
}

const TYPES = ["text/plain; charset=utf-8", "application/octet-stream", "text/javascript", null];
for (const type of TYPES) {
  Deno.test(`deno run -A URL converts, from a server that says ${type ?? "nothing"} of the file`, async () => {
    using models = temporaryFolder();
    const body = readFileSync(oneFile);
    const server = createServer((_, response) => {
      response.writeHead(200, type === null ? {} : { "content-type": type }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    const out = join(models.path, "out.safetensors");
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", `http://127.0.0.1:${address.port}/quantsmith.js`],
        ...[input, out, "--workers", "2"],
      ],
      cwd: models.path,
      env: { DENO_DIR: join(models.path, "cache"), NO_COLOR: "1" },
    }).output();
    await new Promise((resolve) => server.close(resolve));
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.deepEqual(bytesOfFile(out), await expectedBytes(methods[0]!));
  });
}

for (const kind of ["module", "commonjs"]) {
  Deno.test(`the one file runs in a folder whose package.json says ${kind}`, () => {
    using here = temporaryFolder();
    const script = join(here.path, "quantsmith.js");
    writeFileSync(script, readFileSync(oneFile));
    writeFileSync(join(here.path, "package.json"), JSON.stringify({ type: kind }));
    for (const command of ["node", process.execPath, ...(bun === null ? [] : [bun])]) {
      const start = command === process.execPath ? ["run", "-A"] : [];
      const out = join(here.path, "out.safetensors");
      const { code, stderr } = run(command, [...start, script, input, out, "--force"]);
      assert.equal(code, 0, `${command}: ${stderr}`);
    }
  });
}
