import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { likeRule, type ReferenceLayer } from "../../src/presets/like.ts";
import { dequantized, loadHeader } from "../support/header_files.ts";
import { model, quantizedBy, weight } from "./model_names.ts";

const RECIPE = { format: "int8_tensorwise", convrotGroupSize: 256, scaling: "row" } as const;

const reference = (...layers: readonly string[]): ReferenceLayer[] =>
  layers.map((layer) => ({ layer, recipe: RECIPE }));

Deno.test("likeRule() quantizes exactly the layers of the reference and passes on how", () => {
  const tensors = model([
    "blocks.0.q.weight",
    "blocks.0.k.weight",
    "blocks.0.q.bias",
    "head.weight",
  ]);
  const { rule, missing } = likeRule(reference("blocks.0.q", "head"), tensors);
  deepStrictEqual(quantizedBy(rule, tensors), ["blocks.0.q.weight", "head.weight"]);
  deepStrictEqual(rule(tensors[0]!), {
    action: "quantize",
    reason: "quantized in the reference file",
    recipe: RECIPE,
  });
  deepStrictEqual(rule(tensors[1]!), {
    action: "keep",
    reason: "not quantized in the reference file",
  });
  deepStrictEqual(missing, []);
});

Deno.test("likeRule() matches names with a prefix on either side", () => {
  const prefixed = model(["model.diffusion_model.blocks.0.q.weight"]);
  const bare = model(["blocks.0.q.weight"]);
  strictEqual(quantizedBy(likeRule(reference("blocks.0.q"), prefixed).rule, prefixed).length, 1);
  strictEqual(quantizedBy(likeRule(reference("net.blocks.0.q"), bare).rule, bare).length, 1);
  deepStrictEqual(likeRule(reference("model.diffusion_model.blocks.0.q"), bare).missing, []);
});

Deno.test("likeRule() prefers the exact name to one that matches without its prefix", () => {
  const layers: ReferenceLayer[] = [
    { layer: "blocks.0.q", recipe: { ...RECIPE, convrotGroupSize: 64 } },
    { layer: "net.blocks.0.q", recipe: { ...RECIPE, convrotGroupSize: 16 } },
  ];
  const tensor = weight("blocks.0.q.weight");
  strictEqual(likeRule(layers, [tensor]).rule(tensor).recipe?.convrotGroupSize, 64);
});

Deno.test("likeRule() lists the layers that the model lacks, in order", () => {
  const { missing } = likeRule(reference("z.9", "blocks.0.q", "a.1"), model(["blocks.0.q.weight"]));
  deepStrictEqual(missing, ["z.9", "a.1"]);
});

Deno.test("likeRule() takes an embedding that the reference has, but nothing that cannot be quantized", () => {
  const tensors = [weight("model.embed_tokens.weight"), weight("conv.weight", [8, 8, 3, 3])];
  const { rule } = likeRule(reference("model.embed_tokens", "conv"), tensors);
  deepStrictEqual(quantizedBy(rule, tensors), ["model.embed_tokens.weight"]);
  strictEqual(rule(tensors[1]!).reason, "not 2-D: shape [8, 8, 3, 3]");
});

Deno.test("likeRule() keeps what --exclude-layers finds", () => {
  const tensors = model(["blocks.0.q.weight", "blocks.1.q.weight"]);
  const { rule } = likeRule(reference("blocks.0.q", "blocks.1.q"), tensors, {
    excludeLayers: /blocks\.1/,
  });
  deepStrictEqual(quantizedBy(rule, tensors), ["blocks.0.q.weight"]);
});

Deno.test("likeRule() reproduces the layer set of the official Z-Image file on the plain model", () => {
  const layers = loadHeader("z-image-turbo-int8-convrot-official")
    .filter(({ dtype }) => dtype === "I8")
    .map(({ name }) => name.replace(/\.weight$/, ""));
  for (const name of ["z-image-turbo", "z-image-turbo-aio-prefixed"]) {
    const tensors = dequantized(loadHeader(name));
    const { rule, missing } = likeRule(reference(...layers), tensors);
    strictEqual(quantizedBy(rule, tensors).length, 202, name);
    deepStrictEqual(missing, []);
  }
});
