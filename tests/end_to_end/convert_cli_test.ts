import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { untilBegun } from "../support/until_begun.ts";
import { runCli, startCli } from "../support/run_cli.ts";

/** Flux.2-like names, so that the family is detected. */
function writeFlux2(path: string, cols = 256): void {
  let state = 7;
  const weight = (name: string, rows: number, width: number) => {
    const bits = Uint16Array.from({ length: rows * width }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return f32ToBf16((state / 2 ** 32 - 0.5) * 0.1);
    });
    return tensorOf(name, "BF16", [rows, width], bits);
  };
  writeModel(path, [
    weight("double_blocks.0.img_attn.qkv.weight", 768, cols),
    weight("double_blocks.0.txt_mlp.0.weight", 300, 100),
    weight("double_stream_modulation_img.lin.weight", 512, 256),
    weight("img_in.weight", 256, 128),
    tensorOf("double_blocks.0.img_attn.norm.key_norm.scale", "BF16", [4], new Uint16Array(4)),
  ], { format: "pt" });
}

Deno.test("quantsmith SRC converts by the default mode under a name that says what it holds", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const { code, stderr } = await runCli([input, "--verify", "--report-quality"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /flux2/);
  assert.match(stderr, /loads in stock ComfyUI/);
  const output = join(folder.path, "model_int8_row_convrot256_mse.safetensors");
  const model = readModel(output);
  assert.equal(model.get("double_blocks.0.img_attn.qkv.weight")!.dtype, "I8");
  assert.equal(model.get("double_blocks.0.img_attn.qkv.comfy_quant")!.data.length, 72);
  assert.equal(model.get("img_in.weight")!.dtype, "BF16");
});

Deno.test("quantsmith --dry-run analyze --json prints the plan in its stable shape and writes nothing", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const { code, stdout } = await runCli([input, "--dry-run", "analyze", "--json"]);
  assert.equal(code, 0);
  const plan = JSON.parse(stdout);
  assert.equal(plan.family, "flux2");
  assert.equal(plan.target, "comfyui");
  assert.deepEqual(plan.tensors.length, 5);
  assert.deepEqual(readdirSync(folder.path), ["model.safetensors"]);
  const byName = Object.fromEntries(
    plan.tensors.map((t: { name: string }) => [t.name, t]),
  );
  assert.equal(byName["double_blocks.0.img_attn.qkv.weight"].convrot_groupsize, 256);
  assert.equal(byName["double_blocks.0.txt_mlp.0.weight"].convrot_groupsize, null);
  assert.equal(byName["img_in.weight"].action, "keep");
  const { input_bytes, output_bytes, quantize, keep, cast, remove } = plan.totals;
  assert.deepEqual({ quantize, keep, cast, remove }, { quantize: 2, keep: 3, cast: 0, remove: 0 });
  assert.equal(input_bytes, readFileSync(input).length);
  const output = join(folder.path, "out.safetensors");
  assert.equal((await runCli([input, output])).code, 0);
  assert.equal(readFileSync(output).length, output_bytes);
});

Deno.test("quantsmith --json prints one event per line: start, tensors with errors, done", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const { code, stdout } = await runCli([
    "-i",
    input,
    "-o",
    join(folder.path, "o.safetensors"),
    "--json",
  ]);
  assert.equal(code, 0);
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(events.map(({ event }) => event), ["start", "tensor", "tensor", "done"]);
  assert.ok(events[1].errors.sqnr_db > 30);
  assert.equal(events[3].totals.quantize, 2);
});

Deno.test("quantsmith --scaling_mode block warns loudly that stock ComfyUI does not load it", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const output = join(folder.path, "o.safetensors");
  const { code, stderr } = await runCli([input, output, "--scaling-mode", "block", "--simple"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /warning: stock ComfyUI does not load int8_blockwise/);
  const verify = await runCli(["verify", output, "--json"]);
  assert.equal(verify.code, 1);
  const report = JSON.parse(verify.stdout);
  assert.equal(report.loads, false);
  assert.ok(report.problems.some((p: { effect: string }) => /KeyError/.test(p.effect)));
});

Deno.test("quantsmith --target ctq --simple writes the documented block format", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const output = join(folder.path, "o.safetensors");
  const { code, stderr } = await runCli([input, output, "--target", "ctq", "--simple"]);
  assert.equal(code, 0, stderr);
  const model = readModel(output);
  const marker = (layer: string) =>
    JSON.parse(new TextDecoder().decode(model.get(`${layer}.comfy_quant`)!.data));
  assert.deepEqual(marker("double_blocks.0.img_attn.qkv"), {
    format: "int8_blockwise",
    group_size: 128,
  });
  assert.deepEqual(model.get("double_blocks.0.img_attn.qkv.weight_scale")!.shape, [6, 2]);
  assert.deepEqual(marker("double_blocks.0.txt_mlp.0"), { format: "int8_axiswise" });
  assert.deepEqual(model.get("double_blocks.0.txt_mlp.0.weight_scale")!.shape, [300]);
});

Deno.test("quantsmith --no-comfy-quant writes the old scale_weight layout", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const output = join(folder.path, "o.safetensors");
  assert.equal((await runCli([input, output, "--no-comfy-quant"])).code, 0);
  const names = [...readModel(output).keys()];
  assert.ok(names.includes("double_blocks.0.img_attn.qkv.scale_weight"));
  assert.ok(!names.some((name) => name.endsWith("comfy_quant")));
});

Deno.test("quantsmith --like copies layers and how they were quantized", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const first = join(folder.path, "first.safetensors");
  await runCli([input, first, "--exclude-layers", "txt_mlp", "--convrot", "64"]);
  const second = join(folder.path, "second.safetensors");
  const { code, stderr } = await runCli([input, second, "--like", first]);
  assert.equal(code, 0, stderr);
  assert.deepEqual(bytesOfFile(second), bytesOfFile(first));
});

Deno.test("quantsmith reads shards by index or folder as one model", async () => {
  using folder = temporaryFolder();
  const whole = join(folder.path, "whole.safetensors");
  writeFlux2(whole);
  const shards = join(folder.path, "shards");
  mkdirSync(shards);
  const weightMap: Record<string, string> = {};
  [...readModel(whole).values()].forEach((tensor, i) => {
    const name = `model-0000${i + 1}-of-00005.safetensors`;
    writeModel(join(shards, name), [tensor], { format: "pt" });
    weightMap[tensor.name] = name;
  });
  const index = join(shards, "model.safetensors.index.json");
  writeFileSync(index, JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
  const outputs = [];
  for (const [i, source] of [whole, shards, index].entries()) {
    const output = join(folder.path, `${i}.safetensors`);
    const { code, stderr } = await runCli([source, output]);
    assert.equal(code, 0, stderr);
    outputs.push(readModel(output));
  }
  const contents = outputs.map((model) => [...model.entries()].sort(([a], [b]) => a < b ? -1 : 1));
  assert.deepEqual(contents[1], contents[0]);
  assert.deepEqual(contents[2], contents[0]);
});

Deno.test("quantsmith dequantize gives back floats near the source", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const int8 = join(folder.path, "int8.safetensors");
  await runCli([input, int8]);
  const back = join(folder.path, "back.safetensors");
  const { code, stderr } = await runCli(["dequantize", int8, back, "--output-dtype", "F32"]);
  assert.equal(code, 0, stderr);
  const model = readModel(back);
  assert.deepEqual([...model.keys()].sort(), [...readModel(input).keys()].sort());
  const verify = await runCli(["verify", int8, "--source", input, "--json"]);
  assert.equal(verify.code, 0, verify.stdout);
  const { layers } = JSON.parse(verify.stdout);
  assert.ok(layers.every((layer: { errors: { sqnr_db: number } }) => layer.errors.sqnr_db > 35));
});

Deno.test("quantsmith --dry-run create-template writes a template", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeFlux2(input);
  const { code, stderr } = await runCli([input, "--dry-run", "create-template"]);
  assert.equal(code, 0, stderr);
  const template = JSON.parse(
    readFileSync(join(folder.path, "model_layer_config.json"), "utf8"),
  );
  assert.ok(JSON.stringify(template).includes("img_attn"));
});

Deno.test("quantsmith leaves no half file when it is interrupted and exits 130", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  const rows = 4096;
  writeModel(
    input,
    Array.from(
      { length: 12 },
      (_, i) =>
        tensorOf(
          `blocks.${i}.lin.weight`,
          "BF16",
          [rows, 1024],
          new Uint16Array(rows * 1024).fill(0x3f80 + i),
        ),
    ),
  );
  const output = join(folder.path, "out.safetensors");
  const child = startCli([input, output, "--convrot", "256"]);
  await untilBegun(folder.path, child);
  child.kill("SIGINT");
  const { code } = await child.output();
  assert.equal(code, 130);
  assert.deepEqual(readdirSync(folder.path), ["model.safetensors"]);
  assert.equal(existsSync(output), false);
});
