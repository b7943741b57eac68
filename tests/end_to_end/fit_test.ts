/** `--fit` and `--max-error`: the size is obeyed to the byte, the choice is the better one, and is the same always. */

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { FileServer } from "../support/file_server.ts";
import { runCli } from "../support/run_cli.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const ROWS = 96, COLS = 256, LAYERS = 6, TOKENS = 96;

/** A model of layers that are more and less hard to quantize, and inputs of some of them. */
function writeFiles(folder: string, { withInputs = LAYERS } = {}) {
  const model = join(folder, "in.safetensors"), data = join(folder, "data.safetensors");
  const layers = Array.from(
    { length: LAYERS },
    (_, k) => syntheticLayer({ rows: ROWS, cols: COLS, seed: k + 1 }),
  );
  writeModel(
    model,
    layers.map(({ weight }, k) =>
      tensorOf(`blocks.${k}.lin.weight`, "BF16", [ROWS, COLS], Uint16Array.from(weight, f32ToBf16))
    ),
  );
  writeModel(
    data,
    layers.slice(0, withInputs).map(({ inputs }, k) =>
      tensorOf(`blocks.${k}.lin.activations`, "F32", [TOKENS, COLS], inputs(TOKENS, 1))
    ),
  );
  return { model, data };
}

async function plan(args: readonly string[]) {
  const { code, stdout, stderr } = await runCli([...args, "--dry-run", "--json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

Deno.test("quantsmith --fit obeys the size to the byte, by any number of workers, and the file loads", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const common = [model, "--preset", "none", "--no-progress"];
  const { fit: { single_formats } } = await plan([...common, "--fit", "100%"]);
  const sizeOf = (format: string) =>
    single_formats.find((single: { format: string }) => single.format === format).bytes;
  const [least, most] = [sizeOf("w4a8"), sizeOf("bf16")];
  for (const share of [0, 0.2, 0.5, 0.8]) {
    const limit = Math.ceil(least + 4096 + share * (most - least));
    const outputs: Uint8Array[] = [];
    for (const workers of ["1", "3"]) {
      const output = join(folder.path, `out-${workers}.safetensors`);
      const run = [
        ...common,
        "-o",
        output,
        "--force",
        "--fit",
        String(limit),
        "--workers",
        workers,
      ];
      const { code, stderr } = await runCli(run);
      assert.equal(code, 0, stderr);
      assert.match(stderr, /formats +\d+ (bf16|int8|w6a8|w4a8)/);
      assert.ok(statSync(output).size <= limit, `${statSync(output).size} > ${limit}`);
      outputs.push(bytesOfFile(output));
    }
    assert.deepEqual(outputs[0], outputs[1]);
    const verify = await runCli([
      "verify",
      join(folder.path, "out-1.safetensors"),
      "--source",
      model,
    ]);
    assert.equal(verify.code, 0, verify.stderr + verify.stdout);
  }
});

Deno.test("quantsmith --fit is never worse than the best single format of the size, with and without data", async () => {
  using folder = temporaryFolder();
  const { model, data } = writeFiles(folder.path);
  for (const given of [[], ["--calibration-data", data]]) {
    const common = [model, "--preset", "none", ...given];
    const { fit } = await plan([...common, "--fit", "100%"]);
    assert.equal(fit.measured_by_outputs, given.length === 0 ? 0 : LAYERS);
    for (const { bytes, error } of fit.single_formats) {
      const { fit: chosen } = await plan([...common, "--fit", String(bytes + 1024)]);
      assert.ok(chosen.error <= error * (1 + 1e-9), `${chosen.error} > ${error} at ${bytes}`);
      assert.ok(chosen.bytes <= bytes + 1024);
      assert.equal(chosen.is_best, true);
    }
    const errors = fit.frontier.map((point: { error: number }) => point.error);
    assert.deepEqual(
      errors,
      errors.toSorted((a: number, b: number) => b - a),
      "errors fall with size",
    );
  }
});

Deno.test("quantsmith --max-error takes the smallest output within the error", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const common = [model, "--preset", "none"];
  const { fit: loose } = await plan([...common, "--max-error", "0.05"]);
  const { fit: tight } = await plan([...common, "--max-error", "0.006"]);
  assert.ok(loose.error <= 0.05 && tight.error <= 0.006);
  assert.ok(loose.bytes < tight.bytes);
  const { fit: same } = await plan([...common, "--fit", String(tight.bytes)]);
  assert.ok(same.error <= tight.error * (1 + 1e-9));
});

Deno.test("quantsmith --fit leaves alone what a flag or a config names, and layers that no format fits", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const { fit, tensors } = await plan([
    ...[model, "--preset", "none", "--fit", "60%"],
    ...["--custom-layers", "blocks\\.0\\.", "--custom-type", "w4a8"],
    ...["--exclude-layers", "blocks\\.1\\."],
  ]);
  const names = fit.layers.map(({ name }: { name: string }) => name);
  assert.deepEqual(names, [2, 3, 4, 5].map((k) => `blocks.${k}.lin.weight`));
  const actionOf = (name: string) =>
    tensors.find((tensor: { name: string }) => tensor.name === name).action;
  assert.equal(actionOf("blocks.1.lin.weight"), "keep");
  assert.equal(actionOf("blocks.0.lin.weight"), "quantize");
});

Deno.test("quantsmith --fit says which layers the data does not know, and judges them by their weights", async () => {
  using folder = temporaryFolder();
  const { model, data } = writeFiles(folder.path, { withInputs: 2 });
  const args = [model, "--preset", "none", "--fit", "55%", "--calibration-data", data, "--dry-run"];
  const { code, stderr, stdout } = await runCli(args);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /formats of 4 of 6 layers are chosen by the errors of their weights/);
  assert.match(stdout, /size against error, the best choice of each size:/);
  assert.match(stdout, /all layers in one format:/);
});

Deno.test("quantsmith --fit refuses what cannot be reached, and what contradicts it", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const output = join(folder.path, "out.safetensors");
  const cases: readonly (readonly [string[], number, RegExp])[] = [
    [
      ["--fit", "1kB"],
      1,
      /the smallest that bf16, int8, w6a8, w4a8 give is \d+ bytes \(0\.\d+ MB\)/,
    ],
    [["--fit", "50%", "--format", "w4a8"], 2, /--format w4a8 with --fit: --fit-formats says/],
    [["--fit", "50%", "--max-error", "0.1"], 2, /one asks for a size, the other for an error/],
    [["--fit", "lots"], 2, /"lots" for --fit: it takes a size/],
    [["--fit", "50%", "--fit-formats", "int8"], 2, /two formats or more are needed/],
    [
      ["--fit", "50%", "--fit-formats", "int8,int9"],
      2,
      /"int9" for --fit-formats: one of bf16, int8, w6a8, w4a8/,
    ],
    [["--fit", "50%", "--fit-formats", "int8,int8"], 2, /a format is named twice/],
    [["--fit", "50%", "--target", "ctq"], 2, /only stock ComfyUI loads this format/],
    [["--max-error", "1e-9", "--fit-formats", "int8,w4a8"], 1, /the least that int8, w4a8 give is/],
    [["--max-error", "1e-9"], 1, /keeps all \d+ layers as they are; ask for .* a larger error/],
    [["--fit", "9GB"], 1, /keeps all \d+ layers as they are; ask for a smaller size/],
  ];
  for (const [flags, want, message] of cases) {
    const { code, stderr } = await runCli([model, output, "--preset", "none", ...flags]);
    assert.equal(code, want, `${flags}: ${stderr}`);
    assert.match(stderr, message, flags.join(" "));
    assert.throws(() => statSync(output), { code: "ENOENT" });
  }
  const { stderr } = await runCli([model, output, "--preset", "none", "--fit", "1kB"]);
  const smallest = /give is (\d+) bytes/.exec(stderr)![1]!;
  const { fit } = await plan([model, "--preset", "none", "--fit", smallest]);
  assert.equal(fit.bytes, Number(smallest));
});

Deno.test("quantsmith --fit stores what it leaves in 16 bits as BF16, of F32 sources, too", async () => {
  using folder = temporaryFolder();
  const model = join(folder.path, "in.safetensors"), output = join(folder.path, "out.safetensors");
  const weights = Array.from(
    { length: 4 },
    (_, k) => syntheticLayer({ rows: ROWS, cols: COLS, seed: k + 1 }).weight,
  );
  writeModel(
    model,
    weights.map((weight, k) => tensorOf(`blocks.${k}.lin.weight`, "F32", [ROWS, COLS], weight)),
  );
  const run = [model, "-o", output, "--preset", "none", "--fit", "40%", "--no-progress", "--json"];
  const { code, stderr } = await runCli(run);
  assert.equal(code, 0, stderr);
  const out = readModel(output);
  const dtypes = weights.map((_, k) => out.get(`blocks.${k}.lin.weight`)!.dtype);
  // 40 % of F32 are 12.8 bits per weight.
  assert.deepEqual([...new Set(dtypes)].toSorted(), ["BF16", "I8"]);
  dtypes.forEach((dtype, k) => {
    if (dtype !== "BF16") return;
    const { data } = out.get(`blocks.${k}.lin.weight`)!;
    assert.deepEqual(
      new Uint16Array(data.slice().buffer),
      Uint16Array.from(weights[k]!, f32ToBf16),
    );
  });
});

Deno.test("quantsmith --fit chooses for a model on a server what it chooses for the file", async () => {
  using folder = temporaryFolder();
  writeFiles(folder.path);
  await using server = await FileServer.start({ files: folder.path });
  const outputs: Uint8Array[] = [];
  for (const model of [join(folder.path, "in.safetensors"), server.url("in.safetensors")]) {
    const output = join(folder.path, "fitted.safetensors");
    const run = [model, "-o", output, "--preset", "none", "--fit", "60%", "--force"];
    const { code, stderr } = await runCli([...run, "--no-progress"]);
    assert.equal(code, 0, stderr);
    outputs.push(bytesOfFile(output));
  }
  assert.deepEqual(outputs[0], outputs[1]);
});

Deno.test("quantsmith --fit --report draws sizes against errors, and says so in JSON", async () => {
  using folder = temporaryFolder();
  const { model } = writeFiles(folder.path);
  const page = join(folder.path, "r.html"), json = join(folder.path, "r.json");
  for (const report of [page, json]) {
    const output = join(folder.path, "out.safetensors");
    const run = [model, "-o", output, "--preset", "none", "--fit", "60%", "--report", report];
    const { code, stderr } = await runCli([...run, "--force", "--no-progress"]);
    assert.equal(code, 0, stderr);
  }
  const { fit } = JSON.parse(readFileSync(json, "utf8"));
  assert.ok(fit.frontier.length > 3 && fit.layers.length === LAYERS);
  const html = readFileSync(page, "utf8");
  const line = /<polyline points="([^"]*)"/.exec(html)![1]!.split(" ");
  assert.equal(line.length, fit.frontier.length);
  for (const text of ["this file", "all layers w4a8", "all layers int8"]) {
    assert.ok(html.includes(text), text);
  }
});
