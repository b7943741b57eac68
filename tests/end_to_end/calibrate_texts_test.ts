/** `calibrate --texts`: from a text encoder and texts to calibration data that a conversion takes. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCalibration } from "../../src/calibration/calibration.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { SMALL_MODELS, writeSmallModel } from "../run/encoder/small_models.ts";
import { wordTokenizer } from "../run/encoder/word_tokenizer.ts";
import { bytesOfFile, readModel, temporaryFolder, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const TEXTS = 40, WORDS = 12;

/** A model, its tokenizer and 40 texts of 12 words; `calibrate` runs the command. */
function files(title: string) {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const model = SMALL_MODELS.find((each) => each.title === title)!;
  const input = writeSmallModel(folder.path, model, writeFileSync);
  writeFileSync(at("tokenizer.json"), wordTokenizer(64));
  const text = (i: number) =>
    Array.from({ length: WORDS }, (_, j) => `w${(i * 7 + j * j * (i % 5 + 1)) % 64}`).join(" ");
  const texts = (first: number) =>
    Array.from({ length: TEXTS }, (_, i) => text(first + i)).join("\n");
  writeFileSync(at("texts.txt"), texts(0));
  writeFileSync(at("fresh.txt"), texts(TEXTS));
  const output = at("data.safetensors");
  const calibrate = (...more: readonly string[]) =>
    runCli([
      ...[
        "calibrate",
        input,
        output,
        "--preset",
        "none",
        "--exclude-layers",
        "^(shared|model.embed)",
      ],
      ...["--texts", at("texts.txt"), "--tokenizer", at("tokenizer.json"), ...more],
    ]);
  return { at, input, output, calibrate, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

Deno.test("calibrate --texts writes rows of whole texts, which a conversion holds apart and is better by", async () => {
  using folder = files("Qwen3");
  const { at, input, output } = folder;
  const run = await folder.calibrate("--samples", "240", "--json");
  assert.equal(run.code, 0, run.stderr);
  const { family, texts, tokens, rows, layers } = JSON.parse(run.stdout);
  assert.deepEqual([family, texts, tokens, rows, layers], ["Qwen3", 40, 480, 240, 14]);
  const { layers: data, fields, isSynthetic } = openCalibration(output);
  assert.equal(isSynthetic, false);
  const down = data.get("model.layers.1.mlp.down_proj")!;
  assert.deepEqual([down.statistic, down.rows, down.cols], ["activations", 240, 64]);
  assert.ok(down.origins!.length > 30 && down.origins!.every((count) => count <= WORDS));
  assert.ok(fields.get("model.layers.0.self_attn.q_proj")?.channel_mean !== undefined);
  const about = JSON.parse(openModel(output).metadata!["quantsmith.texts"]!);
  assert.deepEqual([about.family, about.texts.count, about.seed], ["Qwen3", 40, 0]);

  const flags = [
    "--preset",
    "none",
    "--exclude-layers",
    "embed",
    "--json",
    "--scaling_mode",
    "row",
  ];
  const convert = async (name: string, ...more: readonly string[]) => {
    const { code, stderr } = await runCli([input, at(name), ...flags, ...more]);
    assert.equal(code, 0, stderr);
  };
  await convert("plain.safetensors");
  await convert("better.safetensors", "--calibration-data", output);
  const fresh = await folder.calibrate("--texts", at("fresh.txt"), "--force");
  assert.equal(fresh.code, 0, fresh.stderr);
  const error = async (name: string) => {
    const { stdout } = await runCli([
      ...["verify", at(name), "--source", input, "--calibration-data", output, "--json"],
      ...["--calibration-holdout", "0"],
    ]);
    return JSON.parse(stdout).overall_output.w8a16;
  };
  const [plain, better] = [await error("plain.safetensors"), await error("better.safetensors")];
  assert.ok(better < 0.95 * plain, `${better} for ${plain}`);
});

Deno.test("calibrate --texts writes the same bytes for any number of workers, and others for another seed", async () => {
  using folder = files("T5");
  const bytes: Uint8Array[] = [];
  for (const flags of [["--workers", "1"], ["--workers", "3"], ["--seed", "3"]]) {
    const { code, stderr } = await folder.calibrate("--force", "--samples", "100", ...flags);
    assert.equal(code, 0, stderr);
    bytes.push(bytesOfFile(folder.output));
  }
  assert.deepEqual(bytes[1], bytes[0]);
  assert.notDeepEqual(bytes[2], bytes[0]);
});

Deno.test("calibrate --texts refuses what it cannot use, says what to do, and writes nothing", async () => {
  using folder = files("Qwen3");
  const { at, input, output } = folder;
  const refused = async (flags: readonly string[], code: number, message: RegExp) => {
    const run = await folder.calibrate(...flags);
    assert.equal(run.code, code, run.stderr);
    assert.match(run.stderr, message);
    assert.equal(existsSync(output), false);
  };
  writeFileSync(at("empty.txt"), "\n\n");
  writeFileSync(at("other.json"), wordTokenizer(90));
  await refused(["--texts", at("empty.txt")], 1, /empty\.txt.*holds no text.*one text per line/s);
  await refused(
    ["--tokenizer", at("other.json")],
    1,
    /90 tokens.*64 rows.*tokenizer\.json of this/s,
  );
  await refused(["--texts", at("none.txt")], 1, /none\.txt/);
  await refused(["--memory-limit", "50MB"], 1, /480 tokens at once.*limit is 0\.1 GB/s);
  await refused(["--lora", "l.safetensors"], 2, /--calibration-lora with --texts/);
  const alone = await runCli(["calibrate", input, "--texts", at("texts.txt")]);
  assert.equal(alone.code, 2);
  assert.match(alone.stderr, /without --tokenizer.*tokenizer\.json/s);

  const quantized = at("int8.safetensors");
  await runCli([input, quantized, "--preset", "none", "--exclude-layers", "embed"]);
  const models = [[quantized, /it is quantized.*BF16, F16 or F32 file/s]] as const;
  const tensors = [...readModel(input).values()];
  const lacking = at("lacking.safetensors"), strange = at("strange.safetensors");
  writeModel(lacking, tensors.filter(({ name }) => !name.includes("1.self_attn.k_norm")));
  writeModel(strange, tensors.filter(({ name }) => !name.includes("layernorm")));
  const more = [
    [lacking, /lacks the tensor "model\.layers\.1\.self_attn\.k_norm\.weight" of Qwen3/],
    [strange, /no text encoder that is supported; supported are T5/],
  ] as const;
  for (const [model, message] of [...models, ...more]) {
    const run = await runCli([
      ...["calibrate", model, output, "--preset", "none", "--texts", at("texts.txt")],
      ...["--tokenizer", at("tokenizer.json")],
    ]);
    assert.equal(run.code, 1, run.stderr);
    assert.match(run.stderr, message);
    assert.equal(existsSync(output), false);
  }
});

Deno.test("calibrate --texts stops if a model makes NaN, and names the layer", async () => {
  using folder = files("T5 without gates");
  const { input, output } = folder;
  const tensors = [...readModel(input).values()].map((tensor) => {
    if (!tensor.name.endsWith("block.1.layer.1.layer_norm.weight")) return tensor;
    return { ...tensor, data: new Uint8Array(new Float32Array(32).fill(NaN).buffer) };
  });
  writeModel(input, tensors);
  const run = await folder.calibrate();
  assert.equal(run.code, 1);
  assert.match(run.stderr, /block\.1\.layer\.1\.DenseReluDense\.wi\.weight.*NaN/s);
  assert.equal(existsSync(output), false);
  assert.ok(readFileSync(input).length > 0);
});
