import assert from "node:assert/strict";
import { join } from "node:path";
import { closingLines, qualityText } from "../../src/cli/closing.ts";
import { formatPercent } from "../../src/cli/format.ts";
import { nextStep, placeOf } from "../../src/cli/next_step.ts";
import { versionsFor } from "../../src/formats/written_format.ts";
import { groupedLevels } from "../../src/quant/level_grid.ts";
import type { Scheme } from "../../src/quant/scheme.ts";
import { overallErrors } from "../../src/run/layer_statistics.ts";
import { qualityTable } from "../../src/cli/quality_table.ts";
import { GRADES, verdictOf } from "../../src/cli/verdict.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { overallOutput } from "../../src/convert/output_errors.ts";
import { plainRows } from "../../src/convert/plain_rows.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { WORKER_URL } from "../../src/run/workers/worker_url.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder } from "../support/model_files.ts";

const ROWS: ConvertOptions = {
  ...DEFAULT_CONVERT_OPTIONS,
  method: "simple",
  scaling: "row",
  convrot: "off",
  scaleSearch: "off",
};

async function converted(folder: string, options: ConvertOptions, measure = false) {
  const input = join(folder, "m.safetensors");
  writeSmallModel(input);
  const result = await convertModel({
    input,
    output: join(folder, "o.safetensors"),
    options,
    workerUrl: WORKER_URL,
    workers: 1,
    force: true,
    measure,
  });
  return { result, source: openModel(input) };
}

Deno.test("plainRows() gives the weight error that a conversion by plain rows has", async () => {
  using folder = temporaryFolder();
  const { result, source } = await converted(folder.path, ROWS);
  const plain = plainRows(source, result.layers, ROWS);
  const { relativeError } = overallErrors(result.layers)!;
  assert.equal(plain!.sampledRows, plain!.rows);
  assert.ok(Math.abs(plain!.relativeError / relativeError - 1) < 1e-5);
  // The same baseline, whatever was done to the layers.
  const rotated = await converted(folder.path, DEFAULT_CONVERT_OPTIONS);
  assert.equal(
    plainRows(source, rotated.result.layers, DEFAULT_CONVERT_OPTIONS)!.relativeError,
    plain!.relativeError,
  );
});

Deno.test("plainRows() comes near the output error of plain rows by a few rows and inputs", async () => {
  using folder = temporaryFolder();
  const data = join(folder.path, "data.safetensors");
  writeCalibration(data);
  const options = { ...ROWS, calibrationPath: data };
  const { result, source } = await converted(folder.path, options, true);
  const plain = plainRows(source, result.layers, options);
  const measured = overallOutput(result.layers)!.w8a8!;
  assert.ok(Math.abs(plain!.w8a8! / measured - 1) < 0.15, `${plain!.w8a8} ${measured}`);
});

Deno.test("plainRows() says nothing if the source is not what was rounded", async () => {
  using folder = temporaryFolder();
  const { result, source } = await converted(folder.path, ROWS);
  const merge = { paths: ["a"], scale: 1, dampen: true, strict: false };
  assert.equal(plainRows(source, result.layers, { ...ROWS, merge }), null);
  assert.equal(plainRows(source, result.layers, { ...ROWS, smoothAlpha: 0.5 }), null);
});

Deno.test("closingLines() names file, size, rate, verdict, plain rows and what to do next", async () => {
  using folder = temporaryFolder();
  const { result, source } = await converted(folder.path, DEFAULT_CONVERT_OPTIONS);
  const plain = plainRows(source, result.layers, DEFAULT_CONVERT_OPTIONS);
  const lines = closingLines({ ...result, elapsedMs: 2000 }, plain);
  const { inputBytes } = result.plan.totals;
  assert.equal(lines[0], `done: ${result.output}`);
  assert.match(lines[1]!, /^ {2}size {5}\d+ kB -> \d+ kB, \d+ kB \(\d\d %\) saved$/);
  assert.equal(lines[2], `  time     2.0 s, ${Math.round(inputBytes / 2000)} kB/s of input`);
  const error = formatPercent(overallErrors(result.layers)!.relativeError);
  assert.match(lines[3]!, new RegExp(`^  quality  near-lossless: weight error ${error} \\(\\d`));
  assert.ok(lines[3]!.endsWith(`plain rows ${formatPercent(plain!.relativeError)}`), lines[3]);
  assert.match(lines[4]!, /^ {2}worst {4}0\.\d+ %, double_blocks\.0\./);
  assert.match(lines[5]!, /^ {2}next {5}\S/);
});

Deno.test("closingLines() says that what others would have given is that of INT8, if layers have fewer bits", async () => {
  using folder = temporaryFolder();
  for (const output of ["w4a8", "fp8"] as const) {
    const options = { ...DEFAULT_CONVERT_OPTIONS, output };
    const { result, source } = await converted(folder.path, options);
    const plain = { ...plainRows(source, result.layers, options)!, w8a8: 0.02, defaultW8a8: 0.01 };
    assert.match(closingLines(result, plain)[3]!, /%.*, INT8 in plain rows (about )?\d/);
    const verdict = { ...verdictOf(result.layers)!, measure: "w8a8" as const };
    const text = qualityText(verdict, plain, false);
    assert.match(text, /, INT8 without data about 1.00 %, INT8 in plain rows about 2.00 %$/);
  }
});

Deno.test("verdictOf() goes by outputs if they were measured, and falls with the error", async () => {
  using folder = temporaryFolder();
  const { result } = await converted(folder.path, ROWS);
  assert.equal(verdictOf([]), null);
  assert.equal(verdictOf(result.layers)!.measure, "weights");
  const [layer] = result.layers;
  const grades = [0.01, 0.06, 0.11, 0.5].map((w8a8) =>
    verdictOf([{
      ...layer!,
      output: { w8a16: 0.001, w8a8, on: "held-out rows", rows: 8, signal: 1 },
    }])
  );
  assert.deepEqual(grades.map((verdict) => [verdict!.measure, verdict!.grade]), [
    ["w8a8", "near-lossless"],
    ["w8a8", "good"],
    ["w8a8", "fair"],
    ["w8a8", "poor"],
  ]);
  for (const steps of Object.values(GRADES)) {
    assert.deepEqual(steps, steps.toSorted((a, b) => a[1] - b[1]));
  }
});

Deno.test("nextStep() names folder and node by the kind of the model", async () => {
  using folder = temporaryFolder();
  const { result: { plan } } = await converted(folder.path, ROWS);
  const of = (family: string | null) => ({ ...plan, detection: { ...plan.detection, family } });
  assert.equal(placeOf(of("flux2"))!.folder, "models/diffusion_models");
  assert.equal(placeOf(of("te_t5"))!.folder, "models/text_encoders");
  assert.match(
    nextStep(of("te_t5"), "o.safetensors"),
    /ComfyUI\/models\/text_encoders.*"Load CLIP"/,
  );
  assert.doesNotMatch(nextStep(of("flux2"), "C:\\ui\\models\\diffusion_models\\o"), /copy/);
  assert.match(nextStep(of(null), "o.safetensors"), /original.* \(ComfyUI \d.* or later\)$/);
  const block = await converted(folder.path, { ...ROWS, scaling: "block", blockSize: 64 });
  assert.match(nextStep(block.result.plan, "o"), /convert_to_quant.*int8_blockwise/);
});

Deno.test("nextStep() names the versions that a mixture of formats needs", async () => {
  using folder = temporaryFolder();
  const { result: { plan } } = await converted(folder.path, ROWS);
  const flux = { ...plan, detection: { ...plan.detection, family: "flux2" } };
  assert.match(nextStep(flux, "o"), /"Load Diffusion Model" \(ComfyUI 0\.27\.0 or later\)$/);
  const [scheme] = plan.tensors.flatMap(({ scheme }) => scheme ?? []);
  const of = (...others: Partial<Scheme>[]) =>
    versionsFor([scheme!, ...others.map((other) => ({ ...scheme!, ...other }))]);
  assert.equal(of({ format: "nvfp4" }), "ComfyUI 0.27.0 or later");
  const levels = (bits: 4 | 6) => ({
    format: "asym_w4a8_int8",
    levels: groupedLevels({ bits, groupCols: 16 }),
  });
  assert.equal(of(levels(4)), "ComfyUI 0.31.0 or later");
  assert.equal(
    of(levels(6), levels(4)),
    "ComfyUI 0.31.0 or later and comfy-kitchen 0.2.36 or later",
  );
  assert.equal(of({ format: "int8_blockwise" }), null);
  assert.equal(versionsFor([]), null);
});

Deno.test("qualityTable() lists the worst ten and says how many there are", async () => {
  using folder = temporaryFolder();
  const { result: { layers: [layer] } } = await converted(folder.path, ROWS);
  const layers = Array.from({ length: 25 }, (_, i) => ({
    ...layer!,
    name: `blocks.${i}.weight`,
    errors: { ...layer!.errors, relativeError: i / 1000, sqnrDb: 60 - i },
  }));
  const lines = qualityTable(layers, { thresholdDb: 40 });
  assert.equal(lines[0], "worst 10 of 25 layers:");
  const named = lines.filter((line) => /blocks\./.test(line));
  assert.equal(named.length, 10);
  assert.match(named[0]!, /2\.40 %.*blocks\.24\.weight {2}\(below 40 dB\)$/);
  assert.match(lines.at(-1)!, /--report/);
  assert.doesNotMatch(
    qualityTable(layers.slice(0, 3), { thresholdDb: 0 }).join("\n"),
    /worst 3 of/,
  );
});
