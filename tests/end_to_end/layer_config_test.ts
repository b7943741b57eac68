import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

/** A model with layers that fit blocks and rotation, and one that fits neither. */
function writeSource(path: string): void {
  const weight = (name: string, shape: readonly [number, number], dtype: "F32" | "F16" = "F32") => {
    const count = shape[0] * shape[1];
    const values = dtype === "F32"
      ? Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7) * 0.1)
      : Uint16Array.from({ length: count }, (_, i) => 0x3000 + i % 1000);
    return tensorOf(name, dtype, shape, values);
  };
  writeModel(path, [
    weight("blocks.0.attn.weight", [64, 256]),
    weight("blocks.0.mlp.weight", [32, 64]),
    weight("blocks.1.odd.weight", [6, 10]),
    weight("blocks.1.half.weight", [64, 64], "F16"),
    weight("token_embedding.weight", [32, 64]),
    tensorOf("blocks.0.norm.weight", "F32", [64], new Float32Array(64).fill(1)),
  ]);
}

Deno.test("--dry-run create-template gives a layer config that changes no byte", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeSource(input);
  const modes = [
    [],
    ["--scaling_mode", "block", "--block_size", "32", "--heur"],
    ["--fp16", "--custom-layers", "mlp"],
    ["--format", "w4a8", "--group-size", "32", "--codebook", "fit"],
    ["--format", "w6a8", "--custom-layers", "mlp", "--custom-type", "nvfp4"],
    ["--format", "w4a4", "--custom-layers", "mlp", "--custom-type", "int8"],
    ["--format", "w4a4", "--linear-dtype", "int8"],
    // Layers of F32 that are left in 16 bits, among others.
    ["--fit", "56kB", "--fit-formats", "bf16,int8,w4a8"],
  ];
  for (const [index, flags] of modes.entries()) {
    const at = (name: string) => join(folder.path, `${index}-${name}`);
    const common = [input, "--preset", "none", "--no-progress"];
    const template = await runCli([
      ...common,
      "-o",
      at("layers.json"),
      "--dry-run=create-template",
      ...flags,
    ]);
    assert.equal(template.code, 0, template.stderr);
    const plain = await runCli([...common, "-o", at("plain.safetensors"), ...flags]);
    assert.equal(plain.code, 0, plain.stderr);
    const at2 = flags.indexOf("--custom-layers");
    // The config alone says which format a layer has, but for --fp16.
    const rest = index < 3 ? flags.slice(0, at2 < 0 ? flags.length : at2) : [];
    const config = ["--layer-config", at("layers.json"), "--fullmatch"];
    const again = await runCli([...common, "-o", at("again.safetensors"), ...rest, ...config]);
    assert.equal(again.code, 0, again.stderr);
    assert.deepEqual(bytesOfFile(at("again.safetensors")), bytesOfFile(at("plain.safetensors")));
  }
  const entries = JSON.parse(readFileSync(join(folder.path, "1-layers.json"), "utf8"));
  assert.deepEqual(entries.layer_patterns["blocks.0.mlp"].scaling_mode, "block");
  assert.deepEqual(entries.layer_patterns["blocks.1.odd"], { skip: true });
  const fitted = JSON.parse(readFileSync(join(folder.path, "7-layers.json"), "utf8"));
  const kept = Object.values(fitted.layer_patterns).filter((entry) =>
    "kept_as" in (entry as object)
  );
  assert(kept.length > 0, "no layer is kept as BF16");
});

Deno.test("--layer-config mixes formats in one file, and a bad one exits 2 with nothing written", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeSource(input);
  const config = join(folder.path, "l.json");
  const output = join(folder.path, "out.safetensors");
  const convert = (text: string) => {
    writeFileSync(config, text);
    return runCli([
      input,
      output,
      "--preset=none",
      "--layer-config",
      config,
      "--verify",
      "--force",
    ]);
  };
  const good = await convert(JSON.stringify({
    "attn": { format: "int8_tensorwise", full_precision_matrix_mult: true },
    "mlp": { format: "fp16" },
    "token_embedding": { format: "int8", convrot: 64 },
    "_exclusions": ["half"],
  }));
  assert.equal(good.code, 0, good.stderr);
  const model = readModel(output);
  const marker = (name: string) => new TextDecoder().decode(model.get(`${name}.comfy_quant`)!.data);
  assert.equal(
    marker("blocks.0.attn"),
    '{"format": "int8_tensorwise", "full_precision_matrix_mult": true}',
  );
  assert.deepEqual(model.get("blocks.0.attn.weight_scale")!.shape, []);
  assert.equal(model.get("blocks.0.mlp.weight")!.dtype, "F16");
  assert.equal(model.get("blocks.1.half.weight")!.dtype, "F16");
  assert.match(marker("token_embedding"), /"convrot_groupsize": 64/);
  assert.match(marker("blocks.1.odd"), /int8_tensorwise/);
  for (
    const [text, message] of [
      ['{"attn": {"format": "int9"}}', /l\.json.*"attn".*"format"/],
      [
        '{"nothing_like_it": {"skip": true}}',
        /none of the layers of the model matches "nothing_like_it"/,
      ],
    ] as const
  ) {
    writeFileSync(output, "before");
    const bad = await convert(text);
    assert.equal(bad.code, 2, bad.stderr);
    assert.match(bad.stderr, message);
    assert.equal(readFileSync(output, "utf8"), "before");
  }
});
