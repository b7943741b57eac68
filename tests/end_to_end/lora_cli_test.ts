import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { relativeError, seededFloats } from "../lora/floats.ts";
import { HEADER_NAMES, loadHeader, writeSparseModel } from "../support/header_files.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const LORAS = HEADER_NAMES.filter((name) => name.startsWith("lora-"));

/** Layers of a real LoRA, and of them those that its base model has. */
const MERGED: Readonly<Record<string, readonly [layers: number, merged: number]>> = {
  "lora-flux1-kohya": [304, 304],
  // The text encoder's 72 layers are in a file of their own.
  "lora-flux1-kohya-te1": [376, 304],
  "lora-flux1-peft-diffusers": [494, 494],
  "lora-qwen-image-comfy-prefixed": [720, 720],
  "lora-qwen-image-lightning-downup": [720, 720],
  "lora-qwen-image-peft": [720, 720],
};

interface Planned {
  readonly name: string;
  readonly action: string;
  readonly reason: string;
  readonly shape: readonly number[];
}

Deno.test("quantsmith --merge-lora --dry-run finds a place for every layer of every real LoRA", async (t) => {
  using folder = temporaryFolder();
  assert.deepEqual(LORAS.toSorted(), Object.keys(MERGED).toSorted());
  for (const name of LORAS) {
    await t.step(name, async () => {
      const base = name.startsWith("lora-flux1") ? "flux1-dev" : "qwen-image";
      const model = writeSparseModel(base, folder.path);
      const lora = writeSparseModel(name, folder.path);
      const args = [model, "--merge-lora", lora, "--dry-run", "analyze", "--json"];
      const [layers, merged] = MERGED[name]!;
      const whole = layers === merged;
      const { code, stdout, stderr } = await runCli(whole ? [...args, "--strict"] : args);
      assert.equal(code, 0, stderr);
      const plan = JSON.parse(stdout);
      const [report] = plan.loras;
      assert.deepEqual([report.layers, report.merged], [layers, merged]);
      assert.deepEqual(report.mismatched, []);
      assert.equal(report.unmatched.length, layers - merged);
      assert.equal(/without a place/.test(stderr), !whole, stderr);
      for (const key of report.unmatched) assert.match(key, /^lora_te1_/);
      const changed = plan.tensors.filter(({ reason }: Planned) => reason.endsWith(" + LoRA"));
      // Flux.1's 304 weights are the 494 of diffusers, fused.
      assert.equal(changed.length, base === "flux1-dev" ? 304 : 720);
    });
  }
});

Deno.test("quantsmith --lora plans every pair of every real LoRA and keeps the rest", async (t) => {
  using folder = temporaryFolder();
  for (const name of LORAS) {
    await t.step(name, async () => {
      const path = writeSparseModel(name, folder.path);
      const { code, stdout } = await runCli([path, "--lora", "--dry-run", "--json"]);
      assert.equal(code, 0);
      for (const { name: tensor, action, shape } of JSON.parse(stdout).tensors as Planned[]) {
        assert.equal(action, shape.length === 2 ? "quantize" : "keep", tensor);
      }
      assert.equal(JSON.parse(stdout).tensors.length, loadHeader(name).length);
    });
  }
});

const COLS = 512;
const RANK = 8;

/** A pair under each spelling, with an alpha or a scale beside it. */
function loraTensors(): Tensor[] {
  const styles: readonly (readonly [string, string, string, string])[] = [
    ["diffusion_model.blocks.0.q", "lora_A.weight", "lora_B.weight", "alpha"],
    ["transformer.blocks.1.q", "lora_A.default.weight", "lora_B.default.weight", "alpha"],
    ["blocks.2.q", "lora_down.weight", "lora_up.weight", "scale"],
    ["lora_unet_blocks_3_q", "lora_down.weight", "lora_up.weight", "alpha"],
  ];
  return styles.flatMap(([key, down, up, extra], i) => [
    tensorOf(`${key}.${down}`, "F32", [RANK, COLS], seededFloats(RANK * COLS, i)),
    tensorOf(`${key}.${up}`, "F32", [COLS, RANK], seededFloats(RANK * COLS, 9 + i)),
    tensorOf(`${key}.${extra}`, "F32", [], new Float32Array([4 + i])),
  ]);
}

Deno.test("quantsmith --lora quantizes the pairs of every spelling, keeps alpha and scale, and warns", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const tensors = loraTensors();
  writeModel(at("l.safetensors"), tensors, { ss_network_alpha: "4" });
  const { code, stderr } = await runCli([at("l.safetensors"), at("q.safetensors"), "--lora"]);
  assert.equal(code, 0, stderr);
  assert.match(
    stderr,
    /warning: stock ComfyUI takes the codes of a quantized LoRA for its weights/,
  );
  const quantized = readModel(at("q.safetensors"));
  const back = await runCli([
    "dequantize",
    at("q.safetensors"),
    at("b.safetensors"),
    "--output-dtype",
    "F32",
  ]);
  assert.equal(back.code, 0, back.stderr);
  const restored = readModel(at("b.safetensors"));
  for (const { name, shape, data } of tensors) {
    if (shape.length === 0) {
      assert.deepEqual(quantized.get(name)!.data, data, name);
      assert.deepEqual(restored.get(name)!.data, data, name);
      continue;
    }
    assert.equal(quantized.get(name)!.dtype, "I8", name);
    const values = new Float32Array(restored.get(name)!.data.slice().buffer);
    const want = Float64Array.from(new Float32Array(data.slice().buffer));
    assert.ok(relativeError(values, want) < 0.02, name);
  }
});

const LAYER = "double_blocks.0.img_attn.proj";
const A = `diffusion_model.${LAYER}.lora_A.weight`;
const B = `diffusion_model.${LAYER}.lora_B.weight`;

function pair(a: string, b: string, rank: number, cols = 256): Tensor[] {
  return [
    tensorOf(a, "F32", [rank, cols], new Float32Array(rank * cols).fill(0.1)),
    tensorOf(b, "F32", [256, rank], new Float32Array(rank * 256).fill(0.1)),
  ];
}

const scalar = (name: string, value: number) =>
  tensorOf(name, "F32", [], new Float32Array([value]));

/** LoRAs that are refused, and what is said of them. */
const BAD: Readonly<Record<string, readonly [readonly Tensor[], RegExp]>> = {
  "another model": [
    pair(
      "transformer_blocks.0.attn.to_q.lora_A.weight",
      "transformer_blocks.0.attn.to_q.lora_B.weight",
      4,
    ),
    /0 of 1 layers|another model|no such layer/,
  ],
  "another shape": [pair(A, B, 4, 128), /256 x 128|\[256, 128\]/],
  "rank 0": [pair(A, B, 0), /rank/i],
  "alpha NaN": [
    [...pair(A, B, 4), scalar(`diffusion_model.${LAYER}.alpha`, NaN)],
    /alpha.*(NaN|finite)/i,
  ],
  "a missing half": [[pair(A, B, 4)[0]!], /other half of the pair.*missing/],
  "values that are not finite": [
    [pair(A, B, 4)[0]!, tensorOf(B, "F32", [256, 4], new Float32Array(1024).fill(Infinity))],
    /finite/,
  ],
  "an adapter of another kind": [
    [tensorOf(`diffusion_model.${LAYER}.oft_blocks`, "F32", [4, 4, 4], new Float32Array(64))],
    /oft/i,
  ],
  "no LoRA": [[scalar("x", 1)], /LoRA/],
};

Deno.test("quantsmith --merge-lora refuses what cannot be merged, naming it, and writes nothing", async (t) => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const model = at("m.safetensors");
  const lora = at("lora.safetensors");
  writeModel(model, [tensorOf(`${LAYER}.weight`, "F32", [256, 256], seededFloats(65536, 1))]);
  for (const [what, [tensors, message]] of Object.entries(BAD)) {
    await t.step(what, async () => {
      writeModel(lora, tensors);
      const { code, stderr } = await runCli([model, "--merge-lora", lora]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, message);
      assert.match(stderr, /error: Cannot .*lora\.safetensors/);
      assert.deepEqual(readdirSync(folder.path).sort(), ["lora.safetensors", "m.safetensors"]);
    });
  }
  await t.step("a missing file", async () => {
    const { code, stderr } = await runCli([model, "--merge-lora", at("none.safetensors")]);
    assert.equal(code, 1);
    assert.match(stderr, /none\.safetensors": no such file/);
  });
  await t.step("a strength that is no number", async () => {
    const args = [model, "--merge-lora", lora, "--merge-lora-scale", "NaN"];
    assert.equal((await runCli(args)).code, 2);
  });
});
