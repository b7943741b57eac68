/** Inputs and ends of a command: files that are none, signals. */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { writeCalibratedModel } from "../support/calibrated_model.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli, startCli } from "../support/run_cli.ts";

Deno.test({
  name: "a pipe in the place of any file that a command reads is refused at once",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = temporaryFolder();
    const { input } = writeCalibratedModel(folder.path, { layers: 1, rows: 32 });
    const at = (name: string) => join(folder.path, name);
    const pipes = ["pipe.json", "pipe.safetensors", "pipe.safetensors.index.json"].map(at);
    for (const pipe of pipes) {
      assert((await new Deno.Command("mkfifo", { args: [pipe] }).output()).success);
    }
    const [json, tensors, index] = pipes as [string, string, string];
    const convert = (...flags: string[]) => [input, at("out.safetensors"), ...flags];
    const lines = [
      convert("--layer-config", json),
      convert("--calibration-data", json),
      convert("--calibration-data", tensors),
      convert("--merge-lora", tensors),
      convert("--calibration-lora", tensors, "--optimizer", "gptq"),
      convert("--like", tensors),
      ["batch", input, "--lora-mapping", json, "-y"],
      ["compare", json, json],
      ["calibrate", input, at("out.json"), "--preset", "none", "--calibration-lora", tensors],
      [tensors, at("out.safetensors")],
      ["inspect", index],
      ["verify", input, "--source", tensors],
    ];
    for (const line of lines) {
      const { code, stderr } = await runCli(line);
      assert(code === 1 || code === 2, `${line.join(" ")}: ${code} ${stderr}`);
      assert.match(stderr, /not a regular file/, line.join(" "));
    }
    assert(!existsSync(at("out.safetensors")));
  },
});

Deno.test({
  name: "a conversion ends with 130 and leaves nothing at SIGINT, SIGTERM and SIGHUP",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = temporaryFolder();
    // Minutes of work, in pieces of less than a second.
    const { input } = writeCalibratedModel(folder.path, { layers: 400, rows: 64 });
    const before = readdirSync(folder.path).sort();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const slow = ["--optimizer", "original", "--num_iter", "3000", "--preset", "none"];
      const child = startCli([input, join(folder.path, "out.safetensors"), ...slow]);
      let isOver = false;
      child.status.then(() => isOver = true);
      while (!isOver && !readdirSync(folder.path).some((name) => name.endsWith(".partial"))) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      child.kill(signal);
      const { code, stderr } = await child.output();
      assert.equal(code, 130, `${signal}: ${new TextDecoder().decode(stderr)}`);
      assert.deepEqual(readdirSync(folder.path).sort(), before, signal);
    }
  },
});

Deno.test("a LoRA whose alpha would drown the model is warned of, by its worst layer", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors"), lora = join(folder.path, "lora.safetensors");
  const layer = "double_blocks.0.img_attn.proj";
  const ones = (count: number) => new Float32Array(count).fill(0.01);
  writeModel(input, [tensorOf(`${layer}.weight`, "F32", [64, 64], ones(64 * 64))]);
  for (const [alpha, isWarned] of [[400, false], [4e6, true], [-4e6, true]] as const) {
    writeModel(lora, [
      tensorOf(`${layer}.lora_down.weight`, "F32", [4, 64], ones(4 * 64)),
      tensorOf(`${layer}.lora_up.weight`, "F32", [64, 4], ones(4 * 64)),
      tensorOf(`${layer}.alpha`, "F32", [], Float32Array.of(alpha)),
    ]);
    const out = join(folder.path, "out.safetensors");
    const { code, stderr } = await runCli([
      input,
      out,
      "--merge-lora",
      lora,
      "--preset",
      "none",
      "--force",
    ]);
    assert.equal(code, 0, stderr);
    assert.equal(/img_attn.proj.* drown the model/.test(stderr), isWarned, stderr);
  }
});

Deno.test("what people read stays short and free of secrets whatever names are in a file, and JSON is complete", async () => {
  using folder = temporaryFolder();
  const long = "x".repeat(3_000_000);
  const input = join(folder.path, "m.safetensors");
  const names = [`blocks.0.${long}.weight`, "https://user:geheim@host/a?sig=geheim.weight"];
  writeModel(
    input,
    names.map((name) => tensorOf(name, "F32", [64, 64], new Float32Array(4096).fill(1))),
  );
  for (
    const line of [["inspect", input], ["verify", input], [input, "--dry-run", "--preset", "none"]]
  ) {
    const { stdout, stderr } = await runCli(line);
    assert(
      stdout.length + stderr.length < 60_000,
      `${line[0]}: ${stdout.length}, ${stderr.length}`,
    );
    assert(!/geheim/.test(stdout + stderr), line[0]);
    const json = await runCli([...line, "--json"]);
    assert.doesNotThrow(() => JSON.parse(json.stdout), line[0]);
  }
  const plan = JSON.parse(
    (await runCli([input, "--dry-run", "--preset", "none", "--json"])).stdout,
  );
  assert.deepEqual(plan.tensors.map(({ name }: { name: string }) => name).sort(), names.toSorted());
});
