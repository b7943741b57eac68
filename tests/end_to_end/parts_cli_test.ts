import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FileServer } from "../support/file_server.ts";
import { writeCalibratedModel } from "../support/calibrated_model.ts";
import { checkerOf, schemaOf } from "../support/json_schema.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

Deno.test("--part and join write the bytes of one run, from a job array's variables too", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 3, rows: 32 });
  const whole = join(folder.path, "whole.safetensors"), out = join(folder.path, "out.safetensors");
  const base = ["--preset", "none", "--device", "cpu", "--no-progress"];
  assert.equal((await runCli([input, whole, ...base])).code, 0);
  const jobs = [
    { args: ["--part", "1/3"], env: {} },
    { args: ["--part=auto/3"], env: { JOB_COMPLETION_INDEX: "1" } },
  ];
  for (const { args, env } of jobs) {
    const run = await runCli([input, out, ...base, ...args], { env });
    assert.equal(run.code, 0, run.stderr);
  }
  const early = await runCli(["join", out]);
  assert.equal(early.code, 1);
  assert.match(early.stderr, /part 3 of 3 is missing: quantsmith .*--preset none .* --part 3\/3/);
  assert(!existsSync(out));
  const array = {
    SLURM_ARRAY_TASK_ID: "3",
    SLURM_ARRAY_TASK_MIN: "1",
    SLURM_ARRAY_TASK_COUNT: "3",
  };
  const last = await runCli([input, out, ...base, "--part", "auto"], { env: array });
  assert.equal(last.code, 0, last.stderr);
  const again = await runCli([input, out, ...base, "--part", "3/3"]);
  assert.match(again.stderr, /part 3 of 3 was finished before/);
  const text = await runCli(["join", out, "--report", join(folder.path, "r.txt")]);
  assert.deepEqual([text.code, existsSync(out)], [2, false], text.stderr);
  const report = join(folder.path, "r.json");
  const joined = await runCli(["join", out, "--json", "--report", report]);
  assert.equal(joined.code, 0, joined.stderr);
  const said = JSON.parse(joined.stdout);
  assert.equal(said.parts, 3);
  assert.deepEqual(JSON.parse(readFileSync(report, "utf8")), said);
  assert.deepEqual(said.layers.map(({ name }: { name: string }) => name).sort(), [
    "blocks.0.lin.weight",
    "blocks.1.lin.weight",
    "blocks.2.lin.weight",
  ]);
  assert(readFileSync(out).equals(readFileSync(whole)));
});

Deno.test("without --part a job of an array does its part and says so loudly; --part none does all", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 3, rows: 32 });
  const whole = join(folder.path, "whole.safetensors"), out = join(folder.path, "out.safetensors");
  const base = ["--preset", "none", "--device", "cpu", "--no-progress"];
  const job = (index: number) => ({ JOB_COMPLETION_INDEX: `${index}`, QUANTSMITH_PARTS: "2" });
  const all = await runCli([input, whole, ...base, "--part", "none"], { env: job(1) });
  assert.equal(all.code, 0, all.stderr);
  for (const index of [0, 1]) {
    const { code, stderr } = await runCli([input, out, ...base], { env: job(index) });
    assert.equal(code, 0, stderr);
    assert.match(stderr, new RegExp(`warning: this job does PART ${index + 1} OF 2 ONLY`));
  }
  assert.equal((await runCli(["join", out])).code, 0);
  assert(readFileSync(out).equals(readFileSync(whole)));
  const plan = await runCli([input, "--preset", "none", "--dry-run"], { env: job(1) });
  assert.doesNotMatch(plan.stderr, /PART/);
});

Deno.test("join --report is the report of one run; parts with the same --report write one each", async () => {
  using folder = temporaryFolder();
  const { input, calibration } = writeCalibratedModel(folder.path, { layers: 3, rows: 32 });
  const at = (name: string) => join(folder.path, name), out = at("out.safetensors");
  const base = ["--preset", "none", "--device", "cpu", "--calibration-data", calibration];
  const reportOf = (name: string) => JSON.parse(readFileSync(at(name), "utf8"));
  const flags = [...base, "--no-progress", "--report", at("report.json")];
  assert.equal((await runCli([input, at("whole.safetensors"), ...flags])).code, 0);
  const whole = reportOf("report.json");
  Deno.removeSync(at("report.json"));
  for (const part of ["1/2", "2/2"]) {
    const { code, stderr } = await runCli([input, out, ...flags, "--part", part]);
    assert.equal(code, 0, stderr);
  }
  const ofParts = [1, 2].map((part) => reportOf(`report.part-${part}-of-2.json`));
  assert.equal(existsSync(at("report.json")), false);
  assert.equal(ofParts[0].layers.length + ofParts[1].layers.length, whole.layers.length);
  const { code, stderr } = await runCli(["join", out, "--report", at("report.json")]);
  assert.equal(code, 0, stderr);
  const joined = reportOf("report.json");
  checkerOf(schemaOf("report.schema.json"))(joined);
  const facts = (
    { model, input_bytes, output_bytes, verdict, overall, overall_output, layers, kept }:
      typeof whole,
  ) => ({
    ...{ model, input_bytes, output_bytes, overall, overall_output, kept },
    // A join does not read the source, from which these are estimated.
    layers: layers.map(({ plain_w8a8: _, default_w8a8: __, ...layer }: Record<string, unknown>) =>
      layer
    ),
    error: verdict.error,
  });
  assert.deepEqual(facts(joined), facts(whole));
  const page = await runCli(["join", out, "--force", "--report", at("report.html")]);
  assert.equal(page.code, 0, page.stderr);
  const html = readFileSync(at("report.html"), "utf8");
  assert.match(html, /joined of 2 parts/);
  assert.match(html, /blocks\.2\.lin/);
});

Deno.test("--part with --fit says how to choose the formats once, and that choice gives the same bytes", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 4, rows: 96 });
  const at = (name: string) => join(folder.path, name), out = at("out.safetensors");
  const base = ["--preset", "none", "--device", "cpu", "--no-progress"], fit = ["--fit", "60%"];
  assert.equal((await runCli([input, at("whole.safetensors"), ...base, ...fit])).code, 0);
  const template = ["--dry-run=create-template", "-o", at("layers.json")];
  assert.equal((await runCli([input, ...template, ...base, ...fit])).code, 0);
  const own = await runCli([input, out, ...base, ...fit, "--part", "1/2"]);
  assert.match(own.stderr, /--dry-run=create-template -o layers\.json/);
  for (const part of ["1/2", "2/2"]) {
    const words = [input, out, ...base, "--layer-config", at("layers.json"), "--part", part];
    const { code, stderr } = await runCli([...words, "--force"]);
    assert.equal(code, 0, stderr);
  }
  assert.equal((await runCli(["join", out])).code, 0);
  assert(readFileSync(out).equals(readFileSync(at("whole.safetensors"))));
});

Deno.test("--part refuses what is no part with exit code 2", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 2, rows: 32 });
  for (const part of ["4/3", "0/3", "500/500"]) {
    const { code, stderr } = await runCli([input, "--preset", "none", "--part", part]);
    assert.equal(code, 2, stderr);
  }
  const { code, stderr } = await runCli([input, "--part", "1/2", "--verify"]);
  assert.equal(code, 2);
  assert.match(stderr, /--verify with --part/);
  assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("part-")), []);
});

Deno.test("batch --part shares the models out, each to one job", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 2, rows: 32 });
  const models = ["a", "b", "c"].map((name) => join(folder.path, `${name}.safetensors`));
  for (const model of models) Deno.copyFileSync(input, model);
  const taken: string[] = [];
  for (const part of ["1/2", "2/2"]) {
    const { code, stdout, stderr } = await runCli(
      ["batch", ...models, "--preset", "none", "--part", part, "--dry-run-batch", "--json"],
    );
    assert.equal(code, 0, stderr);
    const { files } = JSON.parse(stdout.trim().split("\n")[0]!);
    taken.push(...files.map((file: { input: string }) => file.input));
  }
  assert.deepEqual(taken.sort(), models);
  const more = await runCli(["batch", ...models, "--part", "1/4", "-y"]);
  assert.equal(more.code, 2);
  assert.match(more.stderr, /3 models into 4 parts/);
});

Deno.test("parts read a model on a server; the command that makes one leaves out what its address keeps secret", async () => {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 3, rows: 32 });
  await using server = await FileServer.start({ files: folder.path });
  const url = server.url("model.safetensors");
  const whole = join(folder.path, "whole.safetensors"), out = join(folder.path, "out.safetensors");
  const flags = ["--preset", "none", "--device", "cpu", "--no-progress"];
  assert.equal((await runCli([input, whole, ...flags])).code, 0);
  const first = await runCli([`${url}?token=SECRET`, out, ...flags, "--part", "1/2"]);
  assert.equal(first.code, 0, first.stderr);
  const missing = await runCli(["join", out]);
  assert.equal(missing.code, 1);
  assert.ok(missing.stderr.includes(`'${url}?...' ${out} --preset none`), missing.stderr);
  assert.doesNotMatch(missing.stderr, /SECRET/);
  // Another signature is the same file.
  const second = await runCli([`${url}?token=OTHER`, out, ...flags, "--part", "2/2"]);
  assert.equal(second.code, 0, second.stderr);
  assert.equal((await runCli(["join", out])).code, 0);
  assert(readFileSync(out).equals(readFileSync(whole)));
});

Deno.test({
  name: "join leaves nothing behind on a disk that fills up while it writes",
  ignore: Deno.uid() !== 0 || Deno.build.os !== "linux" || !canMount(),
  fn: async () => {
    using folder = temporaryFolder();
    const disk = join(folder.path, "disk");
    Deno.mkdirSync(disk);
    const { input } = writeCalibratedModel(folder.path, { layers: 6, rows: 512 });
    const out = join(folder.path, "out.safetensors"), there = join(disk, "out.safetensors");
    const base = ["--preset", "none", "--device", "cpu", "--no-progress"];
    for (const part of ["1/2", "2/2"]) {
      assert.equal((await runCli([input, out, ...base, "--part", part])).code, 0);
    }
    const parts = readdirSync(folder.path).filter((name) => name.startsWith("out.part-"));
    const bytes = parts.reduce((sum, name) => sum + Deno.statSync(join(folder.path, name)).size, 0);
    // Room for the parts, and for half of what is joined of them.
    const size = Math.ceil(bytes * 1.5 / 4096) * 4096 + 65_536;
    mount("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", disk);
    try {
      for (const name of parts) Deno.copyFileSync(join(folder.path, name), join(disk, name));
      const before = readdirSync(disk).sort();
      const { code, stderr } = await runCli(["join", there]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, /disk|space/);
      assert.deepEqual(readdirSync(disk).sort(), before);
    } finally {
      mount("umount", disk);
    }
  },
});

function mount(command: string, ...args: string[]): boolean {
  return new Deno.Command(command, { args, stdout: "null", stderr: "null" }).outputSync().success;
}

/** Whether this machine lets tests mount a small file system. */
function canMount(): boolean {
  const folder = Deno.makeTempDirSync();
  const isMounted = mount("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder);
  if (isMounted) mount("umount", folder);
  Deno.removeSync(folder);
  return isMounted;
}
