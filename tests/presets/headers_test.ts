import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { detect } from "../../src/presets/detect.ts";
import type { Tier } from "../../src/presets/preset.ts";
import { layerRule } from "../../src/presets/rule.ts";
import { EXPECTED } from "../headers/expected.ts";
import { dequantized, HEADER_NAMES, headerFacts, loadHeader } from "../support/header_files.ts";
import { quantizedBy } from "./model_names.ts";

const TIERS: readonly Tier[] = ["minimal", "balanced", "conservative"];

/** Names of the layers that a tier quantizes of a header; expert banks have a test of their own. */
function layersOf(name: string, tier: Tier): string[] {
  const tensors = loadHeader(name);
  const rule = layerRule({
    tier,
    detection: detect(tensors),
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
  });
  return quantizedBy(rule, dequantized(tensors).filter(({ shape }) => shape.length !== 3));
}

Deno.test("the packed headers and their expectations name the same checkpoints", () => {
  deepStrictEqual([...HEADER_NAMES].sort(), Object.keys(EXPECTED).sort());
});

for (const [name, expected] of Object.entries(EXPECTED)) {
  Deno.test(`detect() knows the real header ${name}`, () => {
    const { family, layout, prefix, evidence } = detect(loadHeader(name));
    deepStrictEqual({ family, layout, prefix }, {
      family: expected.family,
      layout: expected.layout,
      prefix: expected.prefix,
    });
    const names = new Set(loadHeader(name).map((tensor) => tensor.name));
    ok(evidence.length > 0 && evidence.every((key) => names.has(key)), "evidence is real names");
  });

  Deno.test(`layerRule() quantizes the known number of layers of ${name} in every tier`, () => {
    deepStrictEqual(TIERS.map((tier) => layersOf(name, tier).length), [
      headerFacts(name).rule,
      expected.balanced,
      expected.conservative,
    ]);
  });
}

Deno.test("layerRule() takes exactly the layers that the official INT8 files have quantized", () => {
  const official: Readonly<Record<string, Tier>> = {
    "z-image-turbo-int8-convrot-official": "minimal",
    "qwen-image-2.1-int8-convrot-official": "balanced",
  };
  for (const [name, tier] of Object.entries(official)) {
    const codes = loadHeader(name).filter(({ dtype }) => dtype === "I8").map((t) => t.name);
    strictEqual(codes.length, headerFacts(name).quantized);
    deepStrictEqual(layersOf(name, tier).sort(), codes.sort());
  }
});

Deno.test("layerRule() keeps int8 codes: a requantization is planned on what they dequantize to", () => {
  const tensors = loadHeader("z-image-turbo-int8-convrot-official");
  const rule = layerRule({
    tier: "minimal",
    detection: detect(tensors),
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
  });
  deepStrictEqual(quantizedBy(rule, tensors), []);
});

Deno.test("layerRule() with lora quantizes every pair of every real LoRA, and nothing else of it", () => {
  for (const name of HEADER_NAMES.filter((candidate) => candidate.startsWith("lora-"))) {
    const tensors = loadHeader(name);
    const rule = layerRule({
      tier: "balanced",
      detection: detect(tensors),
      preset: { kind: "auto" },
      excludeLayers: null,
      lora: true,
    });
    deepStrictEqual(
      quantizedBy(rule, tensors),
      tensors.filter(({ shape }) => shape.length === 2).map((tensor) => tensor.name),
      name,
    );
  }
});

Deno.test("layerRule() never touches the text encoders and VAE of an all-in-one checkpoint", () => {
  const tensors = loadHeader("sdxl-base-1.0-aio");
  const rule = layerRule({
    tier: "minimal",
    detection: detect(tensors),
    preset: { kind: "none" },
    excludeLayers: null,
    lora: false,
  });
  const layers = quantizedBy(rule, tensors);
  strictEqual(layers.length, 743);
  ok(layers.every((name) => name.startsWith("model.diffusion_model.")));
});

Deno.test("layerRule() takes blocks 2 to 45 of LTX-2.5, their gates included, as the official file does", () => {
  const taken = layersOf("ltx-2.5-av", "balanced");
  const blocks = new Set(
    taken.map((name) => Number(name.match(/^transformer_blocks\.(\d+)\./)?.[1])),
  );
  deepStrictEqual([...blocks].sort((a, b) => a - b), Array.from({ length: 44 }, (_, i) => i + 2));
  // Attentions of video, of audio, and from each to the other.
  strictEqual(taken.filter((name) => name.includes("to_gate_logits")).length, 44 * 6);
});
