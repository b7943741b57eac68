import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const SIZES = [[96, 256], [64, 128]] as const;

/** A model of two layers with biases and two calibration files of inputs with a mean. */
function writeFiles(folder: string): { model: string; data: string; held: string } {
  const paths = {
    model: join(folder, "model.safetensors"),
    data: join(folder, "data.safetensors"),
    held: join(folder, "held.safetensors"),
  };
  const layers = SIZES.map(([rows, cols], i) => syntheticLayer({ rows, cols, seed: 5 + i }));
  writeModel(
    paths.model,
    layers.flatMap(({ rows, cols, weight }, i) => [
      tensorOf(`blocks.${i}.lin.weight`, "F32", [rows, cols], weight),
      tensorOf(`blocks.${i}.lin.bias`, "F32", [rows], new Float32Array(rows).fill(0.5)),
    ]),
  );
  for (const [path, stream] of [[paths.data, 1], [paths.held, 2]] as const) {
    writeModel(
      path,
      layers.map((layer, i) =>
        tensorOf(
          `blocks.${i}.lin.activations`,
          "F32",
          [40, layer.cols],
          layer.inputs(40, stream).map((x, at) => x + Math.sin(at % layer.cols)),
        )
      ),
    );
  }
  return paths;
}

Deno.test("quantsmith --calibration-data reports output errors in table, events, report and verify", async () => {
  using folder = temporaryFolder();
  const { model, data, held } = writeFiles(folder.path);
  const output = join(folder.path, "out.safetensors"), report = join(folder.path, "report.json");
  const common = ["--preset", "none", "--simple", "--scaling_mode", "row", "--no-progress"];
  const given = [model, output, ...common, "--calibration-data", data];
  const table = await runCli([...given, "--report-quality", "--verify", "--report", report]);
  assert.equal(table.code, 0, table.stderr);
  const lines = table.stdout.split("\n");
  assert.equal(lines[0], "2 layers, worst first:");
  assert.match(lines[1]!, /^ *W8A16 +W8A8 +SQNR dB/);
  assert.ok(parseFloat(lines[2]!) >= parseFloat(lines[3]!), "worst layers come first");
  assert.match(
    table.stdout,
    /rows of the calibration data that nothing was fitted to.*\nbiases corrected: 2\n/,
  );
  assert.match(
    table.stderr,
    /output error \(int8 inputs\) .*, without data about .*, plain rows about/,
  );
  assert.match(table.stderr, /everything that was kept is equal to the source/);
  assert.doesNotMatch(table.stderr, /bias-differs/);

  const written = JSON.parse(readFileSync(report, "utf8"));
  assert.equal(written.overall_output.layers, 2);
  const errors: number[] = written.layers.map((l: { output: { w8a16: number } }) => l.output.w8a16);
  const mean = Math.exp(errors.reduce((sum, e) => sum + Math.log(e), 0) / 2);
  assert.ok(Math.abs(written.overall_output.w8a16 / mean - 1) < 1e-12);

  const json = await runCli([...given, "--force", "--json", "--calibration-holdout", "0.25"]);
  const events = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
  const measured = events.filter(({ event }) => event === "measured");
  assert.deepEqual(measured.map(({ output: { on, rows } }) => [on, rows]), [
    ["held-out rows", 10],
    ["held-out rows", 10],
  ]);
  assert.equal(events.at(-1).output_error.on, "held-out rows");

  const verify = ["verify", output, "--source", model, "--calibration-data", held, "--json"];
  const checked = await runCli(verify);
  assert.equal(checked.code, 0, checked.stderr);
  const found = JSON.parse(checked.stdout);
  assert.equal(found.matches_source, true);
  assert.equal(found.overall_output.on, "held-out rows");
  const all = await runCli([...verify, "--calibration-holdout", "0"]);
  assert.equal(JSON.parse(all.stdout).overall_output.on, "given rows");
  assert.ok(found.overall_output.w8a8 > found.overall_output.w8a16);
  assert.deepEqual(
    found.problems.map(({ rule, severity }: Record<string, string>) => [rule, severity]),
    [["bias-differs", "warning"], ["bias-differs", "warning"]],
  );
  const strict = await runCli([...verify, "--strict", "--quality-threshold", "60"]);
  assert.equal(strict.code, 1);
});

Deno.test("quantsmith reports how many rows it rounded to nearest in spite of data, and nothing if none", async () => {
  using folder = temporaryFolder();
  const { model, data } = writeFiles(folder.path);
  const report = join(folder.path, "report.json"), page = join(folder.path, "report.html");
  const given = [model, join(folder.path, "out.safetensors"), "--force", "--no-progress"];
  const common = [...given, "--preset", "none", "--calibration-data"];
  const said = await runCli([...common, data, "--verbose", "VERBOSE", "--report", report]);
  assert.equal(said.code, 0, said.stderr);
  const { layers } = JSON.parse(readFileSync(report, "utf8"));
  const counts: [number, number] = layers.reduce(
    ([some, all]: [number, number], layer: { rows: number; rows_to_nearest: number }) => [
      some + layer.rows_to_nearest,
      all + layer.rows,
    ],
    [0, 0],
  );
  assert(counts[0] > 0 && counts[1] === 160, `${counts}`);
  assert.match(said.stderr, new RegExp(`^${counts[0]} of 160 rows rounded to nearest: `, "m"));
  for (const { name, note, rows, rows_to_nearest: some } of layers) {
    if (some > 0) assert(note.endsWith(`; ${some} of ${rows} rows rounded to nearest`), note);
    assert(said.stderr.includes(`${name}: ${note}\n`), said.stderr);
  }
  const json = await runCli([...common, data, "--json", "--report", page]);
  const events = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
  for (const { name, note, rows, rows_to_nearest, method_report } of layers) {
    assert.equal(method_report.kind, "compensated");
    const event = events.find((event) => event.event === "tensor" && event.name === name);
    assert.deepEqual(
      [event.note, event.rows, event.rows_to_nearest, event.method_report],
      [note, rows, rows_to_nearest, method_report],
    );
  }
  assert.match(readFileSync(page, "utf8"), /, \d+ rows to nearest</);

  // More inputs than a chance gain could come from: one line less.
  const many = join(folder.path, "many.safetensors");
  const layer = syntheticLayer({ rows: 96, cols: 256, seed: 5 });
  writeModel(many, [
    tensorOf("blocks.0.lin.activations", "F32", [600, 256], layer.inputs(600, 1)),
  ]);
  const quiet = await runCli([...common, many, "--verbose", "VERBOSE"]);
  assert.match(quiet.stderr, /blocks\.0\.lin\.weight: gptq from activations, damping [\d.]+\n/);
  assert.doesNotMatch(quiet.stderr, /rows rounded to nearest/);
});

Deno.test("quantsmith --static-activations warns if there is nothing to write, and if no loader reads it", async () => {
  using folder = temporaryFolder();
  const { model, data } = writeFiles(folder.path);
  const given = [model, join(folder.path, "o.safetensors"), "--preset", "none", "--simple"];
  const without = await runCli([...given, "--static-activations"]);
  assert.equal(without.code, 0);
  assert.match(without.stderr, /--static-activations needs --calibration-data/);
  const all = [...given, "--force", "--static-activations", "--calibration-data", data, "--verify"];
  const done = await runCli(all);
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stderr, /input_scale is written; stock ComfyUI does not read it for INT8/);
  const other = await runCli([...all, "--format", "w4a8"]);
  assert.match(other.stderr, /input_scale is written beside layers of INT8 only;/);
  const verify = await runCli([
    "verify",
    join(folder.path, "o.safetensors"),
    "--calibration-data",
    data,
  ]);
  assert.equal(verify.code, 2);
  assert.match(verify.stderr, /Cannot use --calibration-data without --source/);
});
