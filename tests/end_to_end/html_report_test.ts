/** `--report FILE.html` as a user gets it: from the command line, and in a browser if one is there. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { VERSION } from "../../src/core/version.ts";
import { runCli } from "../support/run_cli.ts";
import { MEASURE_NAMES } from "../../src/run/layer_statistics.ts";
import { errorsOfJson, snakeCase } from "../../src/cli/errors_json.ts";
import { PAGE_TITLES, statisticCells, TABLE_TITLES } from "../../src/cli/statistic_columns.ts";

const BROWSER = ["chromium", "chromium-browser", "google-chrome"].find((name) =>
  spawnSync(name, ["--version"]).status === 0
);
if (BROWSER === undefined) console.warn("ignored: tests of the report in Chromium, there is none");

/** Eight layers, one of them with a name that a page must not take for its own text. */
function writeLayers(path: string): void {
  const values = (seed: number) =>
    Float32Array.from(
      { length: 256 * 256 },
      (_, i) => Math.fround(((i * 7919 + seed) % 1009) - 504),
    );
  const names = Array.from({ length: 7 }, (_, i) => `blocks.${i}.lin.weight`);
  writeModel(
    path,
    [...names, "blocks.7.</script><b>&.weight"].map((name, i) =>
      tensorOf(name, "F32", [256, 256], values(i))
    ),
  );
}

async function report(folder: string, ...flags: string[]): Promise<string> {
  const input = join(folder, "model.safetensors");
  const page = join(folder, "report.html");
  writeLayers(input);
  const output = join(folder, "o.safetensors");
  const { code, stderr } = await runCli([input, output, "--force", "--report", page, ...flags]);
  assert.equal(code, 0, stderr);
  return page;
}

Deno.test("--report FILE.html writes one page that asks the network for nothing", async () => {
  using folder = temporaryFolder();
  const html = readFileSync(await report(folder.path), "utf8");
  assert.match(html, /Content-Security-Policy" content="default-src 'none'/);
  assert.doesNotMatch(html, /<(link|img|iframe)\b|<script[^>]+src=|@import|url\(/i);
  for (const part of ["blocks.0.lin", "8 quantized", "SQNR ", "no calibration"]) {
    assert.ok(html.includes(part), part);
  }
});

Deno.test("every measure of a layer is in the JSON report, the table and the page", async () => {
  using folder = temporaryFolder();
  const html = readFileSync(await report(folder.path), "utf8");
  const json = join(folder.path, "report.json");
  const input = join(folder.path, "model.safetensors"), output = join(folder.path, "o.safetensors");
  const { code, stdout } = await runCli(
    [input, output, "--force", "--report", json, "--report-quality"],
  );
  assert.equal(code, 0);
  const { layers } = JSON.parse(readFileSync(json, "utf8"));
  assert.equal(layers.length, 8);
  const texts = html.split("</tr>");
  const lines = stdout.split("\n");
  for (const { name, errors } of layers) {
    if (name.includes("<")) continue;
    assert.deepEqual(Object.keys(errors).sort(), MEASURE_NAMES.map(snakeCase).sort());
    const layer = name.replace(/\.weight$/, "");
    const row = texts.find((text) => text.includes(`<tr><td>${layer}</td>`)) ?? assert.fail(name);
    const line = lines.find((text) => text.endsWith(`  ${name}`)) ?? assert.fail(name);
    const values = errorsOfJson(errors);
    assert.equal(statisticCells(values, "table").length, MEASURE_NAMES.length);
    for (const cell of statisticCells(values, "table")) assert.ok(line.includes(cell), cell);
    for (const cell of statisticCells(values, "page")) {
      assert.ok(row.includes(`<td class="number">${cell}</td>`), cell);
    }
  }
  for (const title of PAGE_TITLES) {
    assert.ok(html.includes(`<th class="number">${title}</th>`), title);
  }
  assert.ok(lines.some((line) => TABLE_TITLES.every((title) => line.includes(title))), stdout);
});

Deno.test("--report FILE.html shows verdict, plain rows, shares, kept layers and how it was made", async () => {
  using folder = temporaryFolder();
  const html = readFileSync(await report(folder.path, "--exclude-layers", "blocks\\.3"), "utf8");
  const text = html.slice(html.indexOf("<body>"), html.indexOf('<script type="application/json"'))
    .replaceAll(/<[^>]+>/g, " ");
  for (
    const part of [
      /near-lossless\s+weight error 0\.\d+ %; plain rows would have given \d\.\d+ %/,
      /7 quantized\s+1 kept/,
      /share of all errors/,
      /blocks\.N\.lin\s+6\s/,
      /keep: .*exclude.*\s+1\s/,
      /command\s+quantsmith .*model\.safetensors .*--report/,
      new RegExp(`program\\s+quantsmith ${VERSION}`),
      /date\s+\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/,
    ]
  ) {
    assert.match(text, part);
  }
});

Deno.test("--report FILE.html takes names of layers for text only", async () => {
  using folder = temporaryFolder();
  const html = readFileSync(await report(folder.path), "utf8");
  assert.ok(!html.includes("</script><b>"));
  assert.ok(html.includes("&lt;/script&gt;&lt;b&gt;&amp;"));
  const [, json] = /id="data">(.*?)<\/script>/s.exec(html) ?? assert.fail("no data");
  assert.equal(JSON.parse(json!).layers.names[7], "blocks.7.</script><b>&");
});

Deno.test("--report-layers chooses whose codes are shown; the counts are those of the file", async () => {
  using folder = temporaryFolder();
  const html = readFileSync(
    await report(folder.path, "--report-layers", "blocks\\.[23]\\."),
    "utf8",
  );
  const [, json] = /id="data">(.*?)<\/script>/s.exec(html) ?? assert.fail("no data");
  const { histograms } = JSON.parse(json!);
  assert.deepEqual(
    histograms.map(({ name }: { name: string }) => name),
    ["blocks.2.lin.weight", "blocks.3.lin.weight"],
  );
  for (const { counts } of histograms) {
    assert.equal(counts.length, 255);
    assert.equal(counts.reduce((sum: number, count: number) => sum + count, 0), 256 * 256);
  }
});

Deno.test({
  name: "--report FILE.html draws all its charts in Chromium, light and dark",
  ignore: BROWSER === undefined,
  async fn() {
    using folder = temporaryFolder();
    const page = await report(folder.path);
    // 0 is dark, 1 is light.
    for (const scheme of ["0", "1"]) {
      const { stdout, stderr } = spawnSync(BROWSER!, [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        `--user-data-dir=${join(folder.path, `profile${scheme}`)}`,
        `--blink-settings=preferredColorScheme=${scheme}`,
        "--virtual-time-budget=2000",
        "--dump-dom",
        `file://${page}`,
      ], { encoding: "utf8" });
      // The errors of all layers, and the codes of six.
      assert.match(stdout, /<body data-drawn="7"/, stderr);
      assert.equal(stdout.match(/<canvas/g)?.length, 7);
    }
  },
});

/** The data of the charts in the page. */
function dataOf(html: string) {
  return JSON.parse(/<script[^>]*id="data"[^>]*>(.*?)<\/script>/s.exec(html)![1]!);
}

Deno.test("--report and verify set W8A8 of outputs beside the default without data and plain rows", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeCalibratedModel(at("model.safetensors"), at("data.safetensors"));
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const data = ["--calibration-data", at("data.safetensors")];
  const convert = [at("model.safetensors"), at("o.safetensors"), "--force", ...data];
  await run(...convert, "--report", at("r.json"));
  await run(...convert, "--report", at("r.html"));
  const { verdict, layers } = JSON.parse(readFileSync(at("r.json"), "utf8"));
  assert.equal(verdict.measure, "w8a8");
  assert.ok(verdict.error < verdict.default_w8a8);
  assert.ok(verdict.default_w8a8 < verdict.plain_rows.w8a8);
  const html = readFileSync(at("r.html"), "utf8");
  const labels = [
    "output error (int8 inputs)",
    "the default without data (estimate)",
    "plain rows (estimate)",
  ];
  const { series, names } = dataOf(html).layers;
  assert.deepEqual(series.map(({ label }: { label: string }) => label), labels);
  for (const { name, output, default_w8a8, plain_w8a8 } of layers) {
    const i = names.indexOf(name.replace(/\.weight$/, ""));
    const wanted = [output.w8a8, default_w8a8, plain_w8a8];
    assert.deepEqual(series.map(({ errors }: { errors: number[] }) => errors[i]), wanted);
  }
  for (const label of ["this file", labels[1]!, "plain rows"]) {
    assert.ok(html.includes(`<div class="bar"><span>${label}</span>`), label);
  }

  const verify = ["verify", at("o.safetensors"), "--source", at("model.safetensors"), ...data];
  const judged = JSON.parse(await run(...verify, "--json")).verdict;
  assert.deepEqual(
    [judged.measure, judged.default_w8a8, judged.error],
    ["w8a8", verdict.default_w8a8, verdict.error],
  );
  const lines = (await run(...verify)).trimEnd().split("\n");
  assert.match(
    lines.find((line) => line.startsWith("quality"))!,
    /output error \(int8 inputs\) .* %, without data about .* %, plain rows about .* %/,
  );
});

/** Two layers, and inputs with some channels that are large and go with others. */
function writeCalibratedModel(model: string, data: string): void {
  const values = (count: number, seed: number) =>
    Float32Array.from({ length: count }, (_, i) => ((i * 7919 + seed * 104729) % 1009) / 504 - 1);
  const names = ["blocks.0.lin", "blocks.1.lin"], cols = 256, rows = 192;
  writeModel(
    model,
    names.map((name, i) => tensorOf(`${name}.weight`, "F32", [256, cols], values(256 * cols, i))),
  );
  writeModel(
    data,
    names.map((name, i) => {
      const x = values(rows * cols, 7 + i);
      for (let at = 0; at < x.length; at++) {
        const common = Math.sin(Math.floor(at / cols) * 1.7 + i);
        x[at] = x[at]! * (at % 16 === 0 ? 6 : 1) + 2 * common * Math.sin(at % cols);
      }
      return tensorOf(`${name}.activations`, "F32", [rows, cols], x);
    }),
  );
}
