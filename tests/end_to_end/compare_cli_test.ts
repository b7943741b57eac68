import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

interface Compared {
  readonly ratio: number;
  readonly better: { readonly a: number; readonly b: number; readonly same: number };
  readonly layers: readonly { readonly name: string; readonly a: number; readonly b: number }[];
}

async function twoConversions(folder: string) {
  const at = (name: string) => join(folder, name);
  writeSmallModel(at("m.safetensors"));
  for (const [name, flags] of [["a", []], ["b", ["--simple", "--scaling_mode", "row"]]] as const) {
    const { code, stderr } = await runCli([
      ...[at("m.safetensors"), at(`${name}.safetensors`), ...flags],
      ...["--report", at(`${name}.json`)],
    ]);
    assert.equal(code, 0, stderr);
  }
  return at;
}

Deno.test("compare of two reports and of the two models finds the same errors", async () => {
  using folder = temporaryFolder();
  const at = await twoConversions(folder.path);
  const reports = await runCli(["compare", at("a.json"), at("b.json"), "--json"]);
  const models = await runCli([
    ...["compare", at("a.safetensors"), at("b.safetensors")],
    ...["--source", at("m.safetensors"), "--json"],
  ]);
  assert.equal(reports.code + models.code, 0, reports.stderr + models.stderr);
  const [byReport, byModel]: Compared[] = [JSON.parse(reports.stdout), JSON.parse(models.stdout)];
  assert.deepEqual(byReport!.better, { a: 2, b: 0, same: 0 });
  assert.ok(byReport!.ratio > 1.5);
  byModel!.layers.forEach(({ name, a, b }, i) => {
    const other = byReport!.layers[i]!;
    assert.equal(other.name, name);
    assert.ok(Math.abs(other.a / a - 1) < 1e-4 && Math.abs(other.b / b - 1) < 1e-4, name);
  });
  // The other way round, the verdict turns round.
  const turned = await runCli(["compare", at("b.json"), at("a.json"), "--json"]);
  const back: Compared = JSON.parse(turned.stdout);
  assert.deepEqual(back.better, { a: 0, b: 2, same: 0 });
  assert.ok(Math.abs(back.ratio * byReport!.ratio - 1) < 1e-9);
});

Deno.test("compare prints a table, writes a page, and replaces no file", async () => {
  using folder = temporaryFolder();
  const at = await twoConversions(folder.path);
  const page = at("page.html");
  const made = await runCli(["compare", at("a.json"), at("b.json"), "--report", page]);
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /^A is better: B has \d\.\d\d times its weight error/m);
  assert.match(made.stdout, /^ {2}verdict +near-lossless +good$/m);
  const html = readFileSync(page, "utf8");
  assert.match(html, /A is better/);
  assert.doesNotMatch(html, /<(link|img|iframe)\b|<script[^>]+src=|@import|url\(/i);
  const again = await runCli(["compare", at("a.json"), at("b.json"), "--report", page]);
  assert.equal(again.code, 1);
  const self = await runCli([
    "compare",
    at("a.json"),
    at("b.json"),
    "--report",
    at("a.json"),
    "--force",
  ]);
  assert.notEqual(self.code, 0);
  assert.ok(existsSync(at("a.json")) && JSON.parse(readFileSync(at("a.json"), "utf8")).layers);
});

Deno.test("compare refuses what it cannot compare, naming the file", async () => {
  using folder = temporaryFolder();
  const at = await twoConversions(folder.path);
  writeFileSync(at("broken.json"), "{");
  writeFileSync(at("other.json"), '{"layers": []}');
  const newer = { ...JSON.parse(readFileSync(at("a.json"), "utf8")), report_version: 99 };
  writeFileSync(at("newer.json"), JSON.stringify(newer));
  for (
    const [args, exit, message] of [
      [[at("a.json")], 2, /1 files?: .*A\.json B\.json/],
      [[at("a.json"), at("broken.json")], 2, /broken\.json": it is not JSON/],
      [[at("a.json"), at("other.json")], 2, /other\.json": it is not the report/],
      [[at("a.json"), at("newer.json")], 2, /report_version is 99.*install a newer/],
      [[at("a.json"), at("b.safetensors")], 2, /b\.safetensors" without --source/],
      [[at("a.json"), at("gone.json")], 1, /gone\.json/],
      [
        [at("m.safetensors"), at("b.safetensors"), "--source", at("m.safetensors")],
        1,
        /m\.safetensors": it has no quantized layer/,
      ],
    ] as const
  ) {
    const { code, stderr } = await runCli(["compare", ...args]);
    assert.equal(code, exit, stderr);
    assert.match(stderr, message);
  }
});
