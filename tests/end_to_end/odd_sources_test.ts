/** Sources that people try in their first hour and that cannot become what they expect. */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const values = (length: number) =>
  Float32Array.from({ length }, (_, i) => ((i * 7919) % 1009 - 504) / 504);

Deno.test("a folder of a diffusers pipeline: the message names the models in it, the main one first", async () => {
  using folder = temporaryFolder();
  writeFileSync(join(folder.path, "model_index.json"), '{"_class_name": "FluxPipeline"}');
  const files = {
    scheduler: null,
    text_encoder: "model.safetensors",
    transformer: "diffusion_pytorch_model.safetensors",
    vae: "diffusion_pytorch_model.safetensors",
  };
  for (const [part, name] of Object.entries(files)) {
    mkdirSync(join(folder.path, part));
    if (name !== null) writeSmallModel(join(folder.path, part, name));
  }
  const { code, stderr } = await runCli([folder.path]);
  assert.equal(code, 1);
  const paths = ["transformer", "text_encoder", "vae"].map((part) =>
    JSON.stringify(join(folder.path, part, files[part as "vae"]))
  );
  const [first, ...others] = paths;
  assert.ok(stderr.includes(`name one of them: ${first}, or ${others.join(", ")}`), stderr);
  assert.equal(stderr.trimEnd().split("\n").length, 1);
});

Deno.test("a VAE is refused with the reason", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "vae.safetensors");
  writeModel(input, [
    tensorOf("encoder.conv_in.weight", "F32", [32, 3, 3, 3], values(32 * 27)),
    tensorOf("decoder.conv_in.weight", "F32", [32, 4, 3, 3], values(32 * 36)),
    tensorOf("post_quant_conv.weight", "F32", [4, 4, 1, 1], values(16)),
  ]);
  const { code, stderr } = await runCli([input]);
  assert.equal(code, 1);
  assert.match(stderr, /VAEs have no quantized path.*use it as it is/);
  assert.deepEqual(readdirSync(folder.path), ["vae.safetensors"]);
});

Deno.test("an FP8 source without scales is converted, with a warning that it will not shrink", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors"), output = join(folder.path, "o.safetensors");
  const codes = Uint8Array.from({ length: 512 * 256 }, (_, i) => (i * 31) % 0x7e);
  writeModel(input, [
    tensorOf("double_blocks.0.img_attn.qkv.weight", "F8_E4M3", [512, 256], codes),
    tensorOf("double_blocks.0.txt_mlp.0.weight", "F32", [256, 256], values(256 * 256)),
  ]);
  const { code, stderr } = await runCli([input, output, "--preset", "none"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /warning: 1 of 2 weights of the source are FP8.*the loss of FP8 stays/);
  const wide = join(folder.path, "wide.safetensors");
  writeSmallModel(wide);
  const other = await runCli([wide, join(folder.path, "p.safetensors")]);
  assert.doesNotMatch(other.stderr, /FP8/);
});
