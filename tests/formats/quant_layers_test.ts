import assert from "node:assert/strict";
import type { DType } from "../../src/core/dtype.ts";
import { parseHeader } from "../../src/safetensors/header.ts";
import type { ModelSource } from "../../src/safetensors/model_source.ts";
import { isAlreadyQuantized } from "../../src/formats/count_formats.ts";
import {
  findQuantizedLayers,
  type QuantizedLayer,
  type ReadBytes,
  readQuantizedModel,
} from "../../src/formats/quant_layers.ts";
import {
  QUANTIZATION_METADATA_KEY,
  readQuantizationMetadata,
} from "../../src/formats/marker_reader.ts";
import { type FixtureTensor, marker, safetensors, tensor } from "../support/header_fixtures.ts";

/** A model in memory and how to read it. */
function model(
  tensors: FixtureTensor[],
  metadata: Record<string, string> | null = null,
): [ModelSource, ReadBytes] {
  const bytes = safetensors(tensors, metadata);
  const header = parseHeader(bytes, { path: "m", fileBytes: bytes.length });
  const source = { path: "m", paths: ["m"], inputBytes: bytes.length, ...header };
  return [source, (found) => {
    assert(found.name.endsWith(".comfy_quant"), `read ${found.name}`);
    return bytes.subarray(found.offsetBytes, found.offsetBytes + found.byteLength);
  }];
}

/** Finds the only quantized layer of a model. */
function only(tensors: FixtureTensor[], metadata?: Record<string, string>): QuantizedLayer {
  const layers = findQuantizedLayers(...model(tensors, metadata ?? null));
  assert.equal(layers.length, 1);
  return layers[0]!;
}

const found = (tensors: FixtureTensor[], metadata: Record<string, string> | null = null) =>
  isAlreadyQuantized(...model(tensors, metadata));

const CONVROT = '{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 256}';

function listing(layers: Record<string, unknown>): Record<string, string> {
  return { [QUANTIZATION_METADATA_KEY]: JSON.stringify({ format_version: "1.0", layers }) };
}

Deno.test("findQuantizedLayers() reads the marker that official INT8 files carry", () => {
  assert.equal(CONVROT.length, 72);
  const layer = only([
    tensor("blocks.0.q.weight", "I8", [3, 256]),
    tensor("blocks.0.q.weight_scale", "F32", [3, 1]),
    tensor("blocks.0.q.bias", "BF16", [3]),
    tensor("norm.weight", "BF16", [256]),
    marker("blocks.0.q", CONVROT),
  ]);
  const { kind, found, tensors: _, ...said } = layer;
  assert.deepEqual([kind?.id, found?.codes.name], ["int8_tensorwise", "blocks.0.q.weight"]);
  assert.deepEqual(said, {
    layer: "blocks.0.q",
    weightName: "blocks.0.q.weight",
    markerName: "blocks.0.q.comfy_quant",
    listedAs: null,
    marker: { format: "int8_tensorwise", convrot: true, convrot_groupsize: 256 },
    rawMarker: { format: "int8_tensorwise", convrot: true, convrot_groupsize: 256 },
    format: "int8_tensorwise",
    scaleName: "blocks.0.q.weight_scale",
    scaleShape: [3, 1],
    convrotGroupSize: 256,
    origin: "comfy_quant",
    problem: null,
    rule: null,
    partNames: ["blocks.0.q.comfy_quant", "blocks.0.q.weight_scale"],
  });
});

Deno.test("findQuantizedLayers() reads a marker padded with spaces, with keys of its own", () => {
  const padded = '{"format":"int8_tensorwise","per_row":true}'.padEnd(60);
  const layer = only([tensor("l.weight", "I8", [2, 2]), marker("l", padded)]);
  assert.deepEqual([layer.format, layer.marker?.per_row, layer.problem], [
    "int8_tensorwise",
    true,
    null,
  ]);
  assert.deepEqual([layer.scaleName, layer.scaleShape], [null, null]);
});

Deno.test("findQuantizedLayers() gives rotated layers their group size, 256 if none is named", () => {
  const group = (fields: object) =>
    only([
      tensor("l.weight", "I8", [2, 64]),
      marker("l", { format: "int8_tensorwise", ...fields }),
    ]).convrotGroupSize;
  assert.equal(group({ convrot: true }), 256);
  assert.equal(group({ convrot: true, convrot_groupsize: 64 }), 64);
  assert.equal(group({ convrot: true, convrot_groupsize: 1 }), 1);
  assert.equal(group({ convrot: false, convrot_groupsize: 64 }), null);
  assert.equal(group({}), null);
});

Deno.test("findQuantizedLayers() lets the header metadata win over the tensor", () => {
  const layer = only([
    tensor("a.b.weight", "F8_E4M3", [2, 2]),
    tensor("a.b.weight_scale", "F32", []),
    marker("a.b", { format: "int8_tensorwise" }),
  ], listing({ "a.b": { format: "float8_e4m3fn" } }));
  assert.deepEqual(
    [layer.origin, layer.format, layer.markerName, layer.scaleShape],
    ["metadata", "float8_e4m3fn", "a.b.comfy_quant", []],
  );
});

Deno.test("findQuantizedLayers() knows the old spelling", () => {
  const layer = only([
    tensor("scaled_fp8", "F8_E4M3", [0]),
    tensor("q.weight", "F8_E4M3", [2, 2]),
    tensor("q.scale_weight", "F32", []),
    tensor("q.scale_input", "F32", []),
    tensor("q.bias", "F8_E4M3", [2]),
    tensor("shared.weight", "F16", [4, 2]),
    tensor("norm.scale_weight", "F32", []),
    tensor("norm.weight", "BF16", [2]),
  ]);
  assert.deepEqual(
    [layer.layer, layer.origin, layer.scaleName, layer.scaleShape, layer.format, layer.marker],
    ["q", "unmarked", "q.scale_weight", [], null, null],
  );
});

Deno.test("findQuantizedLayers() claims one-byte weights with a scale, and leaves no integers alone", () => {
  const scaled = (dtype: "I8" | "F8_E5M2" | "BF16" | "U8", shape: number[]) =>
    findQuantizedLayers(...model([
      tensor("q.weight", dtype, shape),
      tensor("q.weight_scale", "F32", [2, 1]),
    ])).map(({ kind, rule }) => kind?.id ?? rule);
  assert.deepEqual(scaled("I8", [2, 2]), ["int8_unmarked"]);
  assert.deepEqual(scaled("F8_E5M2", [2, 2]), ["float8_scaled"]);
  assert.deepEqual(scaled("I8", [2]), ["int8_unmarked"]);
  assert.deepEqual(scaled("BF16", [2, 2]), []);
  assert.deepEqual(scaled("U8", [2, 2]), ["unknown-layout"]);
});

Deno.test("findQuantizedLayers() takes integers of the size of a weight for codes, under any name", () => {
  const layers = (name: string, dtype: DType, shape: number[]) =>
    findQuantizedLayers(...model([tensor(name, dtype, shape)])).map(({ layer }) => layer);
  for (const dtype of ["I8", "U8", "I16", "U16", "I32", "U32", "F4"] as const) {
    assert.deepEqual(layers("attn.qkv_w", dtype, [64, 64]), ["attn.qkv_w"], dtype);
  }
  assert.deepEqual(layers("moe.w1", "I8", [4, 32, 32]), ["moe.w1"]);
  // Tables, masks, texts and counts are none.
  assert.deepEqual(layers("embeddings.position_ids", "I32", [64, 64]), []);
  assert.deepEqual(layers("attn.relative_position_index", "I64", [64, 64]), []);
  assert.deepEqual(layers("attn.causal_mask", "U8", [64, 64]), []);
  assert.deepEqual(layers("tekken_model", "U8", [100_000]), []);
  assert.deepEqual(layers("sizes", "I32", [4, 2]), []);
});

Deno.test("findQuantizedLayers() leaves one-byte weights without a scale alone", () => {
  assert.deepEqual(findQuantizedLayers(...model([tensor("q.weight", "F8_E4M3", [2, 2])])), []);
});

Deno.test("findQuantizedLayers() records what is wrong with a marker", () => {
  const problem = (json: unknown) =>
    only([tensor("l.weight", "I8", [2, 2]), marker("l", json)]).problem ?? "none";
  assert.match(problem("{"), /marker of "l" is not valid JSON/);
  assert.match(problem(""), /not valid JSON/);
  assert.equal(problem('{"format":"int8_tensorwise"}\0'), "none"); // dropped, and noted
  assert.match(problem('{"format":"a","format":"b"}'), /"format" occurs twice/);
  assert.match(problem([]), /not a JSON object/);
  assert.match(problem({}), /has no "format"/);
  assert.match(problem({ format: 5 }), /"format" that is not a string/);
  const convrot = { format: "int8_tensorwise", convrot: true };
  for (const size of [2, 0, 128, -4, 64.5, "256", null, 2 ** 40]) {
    assert.match(problem({ ...convrot, convrot_groupsize: size }), /no power of 4/, `${size}`);
  }
  assert.match(problem({ ...convrot, convrot: 1 }), /neither true nor false/);
  assert.equal(problem({ format: "made_up" }), "none");
});

Deno.test("findQuantizedLayers() records markers of another dtype, rank or size, and bad UTF-8", () => {
  const problem = (comfyQuant: FixtureTensor) =>
    only([tensor("l.weight", "I8", [2, 2]), comfyQuant]).problem!;
  const bytes = new TextEncoder().encode("{}");
  assert.match(problem(tensor("l.comfy_quant", "I8", [2], bytes)), /is I8 \[2\], not U8 with one/);
  assert.match(problem(tensor("l.comfy_quant", "U8", [1, 2], bytes)), /is U8 \[1, 2\], not U8/);
  assert.match(problem(tensor("l.comfy_quant", "U8", [1], Uint8Array.of(0xff))), /not UTF-8/);
  assert.match(problem(tensor("l.comfy_quant", "U8", [100_000])), /has 100000 bytes/);
});

Deno.test("findQuantizedLayers() lists markers without a weight last, with a problem", () => {
  const layers = findQuantizedLayers(...model([
    marker("gone", { format: "int8_tensorwise" }),
    marker("l", { format: "int8_tensorwise" }),
    tensor("l.weight", "I8", [2, 2]),
  ], listing({ lost: { format: "float8_e4m3fn" } })));
  assert.deepEqual(layers.map(({ layer, weightName }) => [layer, weightName]), [
    ["l", "l.weight"],
    ["gone", null],
    ["lost", null],
  ]);
  assert.match(layers[1]!.problem!, /belongs to no weight/);
  assert.match(layers[2]!.problem!, /belongs to no weight/);
});

Deno.test("findQuantizedLayers() records a listed layer that is not an object", () => {
  const layer = only([tensor("l.weight", "I8", [2, 2])], listing({ l: "int8_tensorwise" }));
  assert.match(layer.problem!, /marker of "l" in the header metadata is not an object/);
});

Deno.test("readQuantizationMetadata() says why it cannot be read, and nothing if it is not there", () => {
  const problem = (text: string) =>
    readQuantizationMetadata({ [QUANTIZATION_METADATA_KEY]: text }).problem ?? "none";
  assert.match(problem("{"), /"_quantization_metadata" is not valid JSON/);
  assert.match(problem("[]"), /not a JSON object/);
  assert.match(problem("{}"), /has no object "layers"/);
  assert.equal(problem('{"layers":{}}'), "none");
  assert.deepEqual(readQuantizationMetadata(null), { layers: new Map(), problem: null });
  assert.equal(readQuantizationMetadata({ format: "pt" }).problem, null);
});

Deno.test("isAlreadyQuantized() counts layers by kind in one sentence", () => {
  const layers = ["a", "b", "c"].flatMap((name) => [
    tensor(`${name}.weight`, "I8", [2, 256]),
    tensor(`${name}.weight_scale`, "F32", [2, 1]),
  ]);
  const markers = ["a", "b"].map((name) => marker(name, CONVROT));
  assert.equal(found(layers).found, "3 I8 layers with weight_scale");
  assert.equal(
    found([...layers, ...markers]).found,
    "2 int8_tensorwise layers (convrot 256), 1 I8 layer with weight_scale",
  );
  assert.equal(
    found([...layers, ...markers, marker("c", "{")]).found,
    "2 int8_tensorwise layers (convrot 256), 1 I8 layer with a malformed marker",
  );
  assert.equal(
    found([tensor("q.weight", "F8_E4M3", [1, 1]), tensor("q.scale_weight", "F32", [])]).found,
    "1 F8_E4M3 layer with scale_weight",
  );
});

Deno.test("isAlreadyQuantized() quotes a format that is more than a word", () => {
  const state = found([tensor("l.weight", "I8", [2, 2]), marker("l", { format: "\u001b[31mred" })]);
  assert.equal(state.found, '1 "\\u001b[31mred" layer');
});

Deno.test("isAlreadyQuantized() is false for plain models, F8 without scales, and stray markers", () => {
  const plain = found([tensor("l.weight", "BF16", [2, 2]), tensor("f.weight", "F8_E4M3", [2, 2])]);
  assert.deepEqual([plain.quantized, plain.found], [false, "no quantized layers"]);
  const stray = found([marker("gone", { format: "int8_tensorwise" })]);
  assert.deepEqual([stray.quantized, stray.layers.length], [false, 1]);
  assert.equal(found([tensor("scaled_fp8", "F8_E4M3", [0])]).quantized, false);
});

Deno.test("readQuantizedModel() drops NUL bytes of markers and says so", () => {
  const empty = readQuantizedModel(...model([
    tensor("embed.weight", "BF16", [2, 2]),
    tensor("embed.comfy_quant", "U8", [29], new Uint8Array(29)),
  ]));
  assert.deepEqual([empty.layers, empty.emptyMarkers], [[], ["embed.comfy_quant"]]);
  assert.match(empty.notes[0]!, /embed\.comfy_quant is 29 NUL bytes/);
  const padded = readQuantizedModel(...model([
    tensor("l.weight", "I8", [2, 2]),
    tensor("l.weight_scale", "F32", [2, 1]),
    marker("l", '{"format":"int8_tensorwise"}\0\0'),
  ]));
  assert.deepEqual([padded.layers[0]!.kind?.id, padded.emptyMarkers], ["int8_tensorwise", []]);
  assert.match(padded.notes[0]!, /ends in 2 NUL bytes/);
});

Deno.test("findQuantizedLayers() reads keys under params, and refuses those that contradict the top", () => {
  const layer = (json: unknown) => only([tensor("l.weight", "I8", [2, 256]), marker("l", json)]);
  const nested = layer({ format: "int8_tensorwise", params: { convrot: true } });
  assert.deepEqual([nested.convrotGroupSize, nested.problem], [256, null]);
  const twofold = layer({ format: "int8_tensorwise", convrot: false, params: { convrot: true } });
  assert.match(twofold.problem!, /"params" in it differ in "convrot"/);
  assert.equal(twofold.rule, "marker-params");
});

Deno.test("findQuantizedLayers() finds listed layers with and without the model's prefix", () => {
  const layers = (name: string, listed: Record<string, unknown>) =>
    findQuantizedLayers(...model([
      tensor(`${name}.weight`, "I8", [2, 256]),
      tensor(`${name}.weight_scale`, "F32", [2, 1]),
    ], listing(listed))).map(({ layer, kind, listedAs }) => [layer, kind?.id, listedAs]);
  const said = { format: "int8_tensorwise" };
  for (const prefix of ["", "model.diffusion_model.", "net."]) {
    assert.deepEqual(layers(`${prefix}blocks.0.q`, { "blocks.0.q": said }), [
      [`${prefix}blocks.0.q`, "int8_tensorwise", "blocks.0.q"],
    ]);
  }
  assert.deepEqual(layers("blocks.0.q", { "net.blocks.0.q": said }), [
    ["blocks.0.q", "int8_tensorwise", "net.blocks.0.q"],
  ]);
  const twice = { "blocks.0.q": said, "net.blocks.0.q": { ...said, convrot: true } };
  const [both] = findQuantizedLayers(...model([
    tensor("net.blocks.0.q.weight", "I8", [2, 256]),
  ], listing(twice)));
  assert.equal(both!.rule, "metadata-disagrees");
});
