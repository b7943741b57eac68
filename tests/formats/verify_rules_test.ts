import assert from "node:assert/strict";
import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { headerProblems } from "../../src/verify/verify.ts";
import type { Problem } from "../../src/formats/verify_rules.ts";
import { findQuantizedLayers } from "../../src/formats/quant_layers.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { HEADER_NAMES, headerFacts, writeSparseModel } from "../support/header_files.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { markerTensor } from "../support/encode.ts";

/** The header problems of a file with these tensors. */
function problemsOf(tensors: Tensor[], metadata: Record<string, string> | null = null): Problem[] {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(path, tensors, metadata);
  const model = openModel(path);
  using reader = new TensorReader(model);
  const readBytes = (tensor: Parameters<typeof reader.read>[0]) => reader.read(tensor);
  return headerProblems(model, findQuantizedLayers(model, readBytes), readBytes);
}

/** Rule ids with severities, e.g. `["scale-1d error"]`. */
function rulesOf(tensors: Tensor[], metadata?: Record<string, string>): string[] {
  return problemsOf(tensors, metadata ?? null).map(({ rule, severity }) => `${rule} ${severity}`);
}

const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);
const SIZES = { I8: 1, U8: 1, F8_E4M3: 1, F8_E8M0: 1, BF16: 2, F32: 4, I32: 4 } as const;
const zeros = (name: string, dtype: keyof typeof SIZES, shape: number[]) =>
  tensorOf(name, dtype, shape, new Uint8Array(count(shape) * SIZES[dtype]));

const TENSORWISE = { format: "int8_tensorwise" };
const ROTATED = { format: "int8_tensorwise", convrot: true, convrot_groupsize: 16 };

/** A layer `l` of 4 x 32 codes; parts are replaced by those of the same name in `other`. */
function layerWith(...other: Tensor[]): Tensor[] {
  const good = [
    zeros("l.weight", "I8", [4, 32]),
    zeros("l.weight_scale", "F32", [4, 1]),
    markerTensor("l", TENSORWISE),
  ];
  const replaced = new Set(other.map(({ name }) => name));
  return [...good.filter(({ name }) => !replaced.has(name)), ...other];
}

const without = (tensors: Tensor[], name: string) =>
  tensors.filter((tensor) => tensor.name !== name);

const listing = (layers: Record<string, unknown>) => ({
  _quantization_metadata: JSON.stringify({ format_version: "1.0", layers }),
});

Deno.test("headerProblems() finds nothing in the forms that stock ComfyUI loads", () => {
  const good: Tensor[][] = [
    layerWith(),
    layerWith(zeros("l.weight_scale", "F32", [])),
    layerWith(zeros("l.weight_scale", "F32", [1])),
    layerWith(markerTensor("l", ROTATED)),
    layerWith(zeros("l.weight", "I8", [2, 3, 8]), zeros("l.weight_scale", "F32", [2, 3, 1])),
    layerWith(zeros("l.input_scale", "F32", [])),
    layerWith(markerTensor("l", { ...TENSORWISE, full_precision_matrix_mult: true, other: 1 })),
    [
      zeros("l.weight", "F8_E4M3", [4, 32]),
      zeros("l.weight_scale", "F32", []),
      markerTensor("l", { format: "float8_e4m3fn" }),
    ],
    [
      zeros("l.weight", "U8", [4, 16]),
      zeros("l.weight_scale", "F8_E4M3", [128, 4]),
      zeros("l.weight_scale_2", "F32", []),
      markerTensor("l", { format: "nvfp4" }),
    ],
    [
      zeros("l.weight", "F8_E4M3", [4, 32]),
      zeros("l.weight_scale", "F8_E8M0", [128, 4]),
      markerTensor("l", { format: "mxfp8" }),
    ],
    [
      zeros("l.weight", "F8_E4M3", [4, 32]),
      zeros("l.scale_weight", "F32", []),
      zeros("scaled_fp8", "F8_E4M3", [0]),
    ],
    [zeros("l.weight", "F8_E4M3", [4, 32])],
    [zeros("l.weight", "BF16", [4, 32]), zeros("tekken_model", "I8", [9])],
  ];
  for (const tensors of good) assert.deepEqual(problemsOf(tensors), []);
});

Deno.test("headerProblems() finds nothing if the metadata alone names the layers", () => {
  const tensors = without(layerWith(), "l.comfy_quant");
  assert.deepEqual(problemsOf(tensors, listing({ l: TENSORWISE })), []);
  assert.deepEqual(problemsOf(layerWith(), listing({ l: TENSORWISE })), []);
});

/** One way to break one rule. */
interface Case {
  readonly rule: string;
  readonly tensors: Tensor[];
  readonly effect: RegExp;
  readonly severity?: "warning";
  readonly metadata?: Record<string, string>;
}

const square = (shape: number[]) =>
  layerWith(zeros("l.weight", "I8", [4, 4]), zeros("l.weight_scale", "F32", shape));
const nul = new TextDecoder().decode(new Uint8Array([0]));

const CASES: Readonly<Record<string, Case>> = {
  "the format int8_blockwise": {
    rule: "format-unknown",
    tensors: layerWith(markerTensor("l", { format: "int8_blockwise", group_size: 4 })),
    effect: /KeyError at load/,
  },
  "the format int8_axiswise": {
    rule: "format-unknown",
    tensors: layerWith(markerTensor("l", { format: "int8_axiswise" })),
    effect: /KeyError at load/,
  },
  "a marker without format": {
    rule: "format-missing",
    tensors: layerWith(markerTensor("l", { convrot: false })),
    effect: /Unknown quantization format for layer l/,
  },
  "a marker that is not JSON": {
    rule: "marker-malformed",
    tensors: layerWith(markerTensor("l", "{format: 1}")),
    effect: /fails at load/,
  },
  "a marker that ends in NUL": {
    rule: "marker-malformed",
    tensors: layerWith(markerTensor("l", JSON.stringify(TENSORWISE) + nul)),
    effect: /fails at load/,
  },
  "a marker that is not U8": {
    rule: "marker-malformed",
    tensors: layerWith(zeros("l.comfy_quant", "I8", [30])),
    effect: /fails at load/,
  },
  "a marker of two dimensions": {
    rule: "marker-malformed",
    tensors: layerWith(zeros("l.comfy_quant", "U8", [1, 30])),
    effect: /fails at load/,
  },
  "a marker without its weight": {
    rule: "marker-without-weight",
    tensors: without(layerWith(), "l.weight"),
    effect: /missing key/,
  },
  "a convrot that is no boolean": {
    rule: "marker-fields",
    tensors: layerWith(markerTensor("l", { ...ROTATED, convrot: "yes" })),
    effect: /garbage/,
  },
  "codes without marker and scale": {
    rule: "unmarked-int8-weight",
    tensors: [zeros("l.weight", "I8", [4, 32])],
    effect: /not recognised as quantized/,
  },
  "codes with weight_scale and no marker": {
    rule: "unmarked-int8-weight",
    tensors: without(layerWith(), "l.comfy_quant"),
    effect: /not recognised as quantized/,
  },
  "codes in the old layout": {
    rule: "unmarked-int8-weight",
    tensors: [zeros("l.weight", "I8", [4, 32]), zeros("l.scale_weight", "F32", [])],
    effect: /not recognised as quantized/,
  },
  "the old layout without scaled_fp8": {
    rule: "unmarked-fp8-weight",
    tensors: [zeros("l.weight", "F8_E4M3", [4, 32]), zeros("l.scale_weight", "F32", [])],
    effect: /garbage/,
  },
  "FP8 with weight_scale and no marker": {
    rule: "unmarked-fp8-weight",
    tensors: [zeros("l.weight", "F8_E4M3", [4, 32]), zeros("l.weight_scale", "F32", [])],
    effect: /garbage/,
  },
  "a float weight with a marker": {
    rule: "weight-dtype",
    tensors: layerWith(zeros("l.weight", "BF16", [4, 32])),
    effect: /garbage/,
  },
  "codes of one dimension": {
    rule: "weight-rank",
    tensors: layerWith(zeros("l.weight", "I8", [4]), zeros("l.weight_scale", "F32", [])),
    effect: /garbage/,
  },
  "codes of a convolution": {
    rule: "weight-rank",
    tensors: layerWith(zeros("l.weight", "I8", [4, 8, 3, 3]), zeros("l.weight_scale", "F32", [])),
    effect: /garbage/,
  },
  "no scale": {
    rule: "scale-missing",
    tensors: without(layerWith(), "l.weight_scale"),
    effect: /no scale/,
  },
  "a scale under its old name": {
    rule: "scale-missing",
    tensors: [...without(layerWith(), "l.weight_scale"), zeros("l.scale_weight", "F32", [4, 1])],
    effect: /no scale/,
  },
  "nvfp4 without its second scale": {
    rule: "scale-missing",
    tensors: [
      zeros("l.weight", "U8", [4, 16]),
      zeros("l.weight_scale", "F8_E4M3", [4, 2]),
      markerTensor("l", { format: "nvfp4" }),
    ],
    effect: /no scale/,
  },
  "a BF16 scale": {
    rule: "scale-dtype",
    tensors: layerWith(zeros("l.weight_scale", "BF16", [4, 1])),
    effect: /first forward/,
  },
  "a scale [N] with N != K": {
    rule: "scale-1d",
    tensors: layerWith(zeros("l.weight_scale", "F32", [4])),
    effect: /fails wherever/,
  },
  "a scale [N] with N = K": {
    rule: "scale-1d",
    tensors: square([4]),
    effect: /silently wrong/,
  },
  "a transposed scale": {
    rule: "scale-shape",
    tensors: layerWith(zeros("l.weight_scale", "F32", [1, 4])),
    effect: /garbage/,
  },
  "a scale of other rows": {
    rule: "scale-shape",
    tensors: layerWith(zeros("l.weight_scale", "F32", [5, 1])),
    effect: /garbage/,
  },
  "scales of tiles": {
    rule: "scale-shape",
    tensors: layerWith(zeros("l.weight_scale", "F32", [2, 16])),
    effect: /garbage/,
  },
  "an FP8 scale per row": {
    rule: "scale-shape",
    tensors: [
      zeros("l.weight", "F8_E4M3", [4, 32]),
      zeros("l.weight_scale", "F32", [4, 1]),
      markerTensor("l", { format: "float8_e4m3fn" }),
    ],
    effect: /one scale for the whole weight/,
  },
  "a rotation under one scale": {
    rule: "convrot-scalar-scale",
    tensors: layerWith(markerTensor("l", ROTATED), zeros("l.weight_scale", "F32", [])),
    effect: /ValueError at the first forward/,
  },
  "a rotation group that does not divide K": {
    rule: "convrot-group-divides",
    tensors: layerWith(markerTensor("l", { ...ROTATED, convrot_groupsize: 64 })),
    effect: /ValueError at the first forward/,
  },
  "the default rotation group if it does not divide K": {
    rule: "convrot-group-divides",
    tensors: layerWith(markerTensor("l", { ...TENSORWISE, convrot: true })),
    effect: /ValueError at the first forward/,
  },
  "a rotation group that is no power of 4": {
    rule: "convrot-group-size",
    tensors: layerWith(markerTensor("l", { ...ROTATED, convrot_groupsize: 32 })),
    effect: /ValueError at the first forward/,
  },
  "smooth_factors": {
    rule: "smooth-factors",
    tensors: layerWith(zeros("l.smooth_factors", "F32", [32])),
    effect: /garbage/,
  },
  "pre_quant_scale": {
    rule: "pre-quant-scale",
    tensors: layerWith(zeros("l.pre_quant_scale", "F32", [32])),
    effect: /garbage/,
  },
  "hadamard_quip": {
    rule: "hadamard-quip",
    tensors: layerWith(zeros("l.hadamard_quip", "I8", [])),
    effect: /garbage/,
  },
  "sign_row alone": {
    rule: "hadamard-quip",
    tensors: layerWith(zeros("l.sign_row", "F32", [4])),
    effect: /garbage/,
  },
  "metadata of another rotation than the marker": {
    rule: "metadata-disagrees",
    tensors: layerWith(),
    metadata: listing({ l: ROTATED }),
    effect: /garbage if the marker/,
  },
  "metadata that differs in what decides nothing": {
    rule: "metadata-disagrees",
    tensors: layerWith(),
    metadata: listing({ l: { ...TENSORWISE, note: 1 } }),
    effect: /metadata wins/,
    severity: "warning",
  },
  "a broken marker that the metadata replaces": {
    rule: "marker-malformed",
    tensors: layerWith(markerTensor("l", "{")),
    metadata: listing({ l: TENSORWISE }),
    effect: /replaces this marker/,
    severity: "warning",
  },
  "metadata of a layer that is not there": {
    rule: "metadata-absent-layer",
    tensors: layerWith(),
    metadata: listing({ l: TENSORWISE, m: TENSORWISE }),
    effect: /ignores the entry/,
  },
  "metadata that is not JSON": {
    rule: "metadata-malformed",
    tensors: layerWith(),
    metadata: { _quantization_metadata: "{" },
    effect: /fails at load/,
  },
  "metadata without layers": {
    rule: "metadata-malformed",
    tensors: layerWith(),
    metadata: { _quantization_metadata: "{}" },
    effect: /fails at load/,
  },
};

for (const [what, { rule, tensors, effect, severity, metadata }] of Object.entries(CASES)) {
  Deno.test(`headerProblems() reports ${what}`, () => {
    const problems = problemsOf(tensors, metadata);
    assert.deepEqual(problems.map((problem) => `${problem.rule} ${problem.severity}`), [
      `${rule} ${severity ?? "error"}`,
    ]);
    assert.match(problems[0]!.effect, effect);
    assert.notEqual(problems[0]!.detail, "");
  });
}

/** Renames the layer of {@link layerWith}. */
const named = (layer: string) =>
  layerWith().map((tensor) => ({ ...tensor, name: tensor.name.replace(/^l\./, `${layer}.`) }));

Deno.test("headerProblems() says that CLIP, VAEs, ControlNets and LoRAs have no quantized path", () => {
  const clip = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1";
  assert.deepEqual(rulesOf(named("text_model.encoder.layers.0.mlp.fc1")), ["clip-quantized error"]);
  assert.deepEqual(rulesOf(named(clip)), ["clip-quantized error"]);
  assert.deepEqual(rulesOf(named("first_stage_model.decoder.mid.attn_1.q")), [
    "vae-quantized error",
  ]);
  const vae = zeros("decoder.conv_in.weight", "BF16", [4, 4, 3, 3]);
  assert.deepEqual(rulesOf([...named("decoder.mid.attn_1.q"), vae]), ["vae-quantized error"]);
  assert.deepEqual(rulesOf(named("controlnet_blocks.0")), ["controlnet-quantized error"]);
  const lora = named("diffusion_model.l.lora_A");
  assert.deepEqual(rulesOf(lora), ["lora-quantized error"]);
});

Deno.test("headerProblems() says that tensors which models read raw must not be quantized", () => {
  const layer = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias";
  assert.deepEqual(rulesOf(named(layer)), ["read-raw error"]);
});

Deno.test("headerProblems() names who reads a format that stock ComfyUI rejects", () => {
  const [problem] = problemsOf(CASES["the format int8_blockwise"]!.tensors);
  assert.match(problem!.hint!, /convert_to_quant/);
});

Deno.test("headerProblems() finds nothing in the quantized files that are in use", () => {
  const names = HEADER_NAMES.filter((name) => headerFacts(name).quantized > 0);
  assert(names.length >= 11);
  for (const name of names) {
    using folder = temporaryFolder();
    const model = openModel(writeSparseModel(name, folder.path));
    using reader = new TensorReader(model);
    const readBytes = (tensor: Parameters<typeof reader.read>[0]) => reader.read(tensor);
    const layers = findQuantizedLayers(model, readBytes);
    assert.deepEqual(headerProblems(model, layers, readBytes), [], name);
  }
});
