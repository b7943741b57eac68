import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

Deno.test("quantsmith --target ctq learns codes on blocks and reports every step to programs", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors"), report = join(folder.path, "r.json");
  const { weight } = syntheticLayer({ rows: 128, cols: 128, seed: 1 });
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [128, 128], weight)]);
  const output = join(folder.path, "o.safetensors");
  const args = ["--target", "ctq", "--num_iter", "7", "--min_k", "8", "--top_p", "0.1"];
  const { code, stdout, stderr } = await runCli([
    input,
    output,
    ...args,
    "--json",
    "--report",
    report,
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /method: original, learned rounding of 1 layer,/);
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
  const tensor = events.find(({ event }) => event === "tensor");
  assert.deepEqual([tensor.format, tensor.method], ["int8_blockwise", "original"]);
  const { learned } = tensor;
  assert.deepEqual([learned.steps, learned.stop, learned.directions], [7, "iterations", [12, 12]]);
  assert.deepEqual([learned.trajectory.loss.length, learned.trajectory.lr[0]], [7, 0.008077]);
  assert.ok(learned.loss_ratio < 1);
  const told = JSON.parse(readFileSync(report, "utf8")).layers[0].learned;
  assert.deepEqual([told.loss_ratio, told.trajectory], [learned.loss_ratio, undefined]);
});
