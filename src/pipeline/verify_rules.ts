/**
 * The rules of the stock ComfyUI loader for quantized layers, as far as names, dtypes, shapes and
 * markers decide; pure. The rules on values are in `verify_values.ts`.
 */

import type { DType } from "../core/dtype.ts";
import { isJsonObject } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { QuantizedLayer } from "../safetensors/quant_layers.ts";
import { partName } from "./stored_matrix.ts";

/** One rule that a file breaks. */
export interface Problem {
  /** Name of the layer or tensor; empty where the file as a whole is concerned. */
  readonly layer: string;
  /** Stable id of the rule, in kebab case. */
  readonly rule: string;
  /** What stock ComfyUI does. */
  readonly effect: string;
  /** `error`: it does not load, fails in use, or computes something else. `warning`: it works. */
  readonly severity: "error" | "warning";
  /** What is there and what should be, as a sentence without its period. */
  readonly detail: string;
  /** What to do, or what reads it. */
  readonly hint?: string;
}

/** What the rules look at beside the layer itself. */
export interface RuleContext {
  readonly byName: ReadonlyMap<string, SourceTensor>;
  /** Objects of the header's `_quantization_metadata`, by layer. */
  readonly listed: ReadonlyMap<string, unknown>;
  /** The object of a `comfy_quant` tensor; null where it is not readable. */
  readonly markerObject: (tensor: SourceTensor) => Record<string, unknown> | null;
  /** Whether a tensor `scaled_fp8` announces the old FP8 layout. */
  readonly hasScaledFp8: boolean;
}

const GARBAGE = "loads, computes garbage";
const FIRST_FORWARD = "loads, ValueError at the first forward";
const RAW_CODES = "not recognised as quantized: loads the raw codes as weights, computes garbage";

/** The formats of stock ComfyUI and the dtypes their weights have. */
const FORMATS: Readonly<Record<string, readonly DType[]>> = {
  int8_tensorwise: ["I8"],
  float8_e4m3fn: ["F8_E4M3"],
  float8_e5m2: ["F8_E5M2"],
  nvfp4: ["U8", "F4"],
  mxfp8: ["F8_E4M3"],
};

/** Who reads what stock ComfyUI does not. */
const OTHER_READERS: Readonly<Record<string, string>> = {
  int8_blockwise: "convert_to_quant's own loader and its forks read it",
  int8_axiswise: "convert_to_quant's own loader and its forks read it",
};

/** Tensors beside an INT8 weight that say its codes are of other values than the layer's weight. */
const IGNORED_TRANSFORMS: readonly { rule: string; parts: readonly string[]; means: string }[] = [
  {
    rule: "smooth-factors",
    parts: ["smooth_factors"],
    means: "its columns are multiplied by smooth_factors, which are ignored",
  },
  {
    rule: "pre-quant-scale",
    parts: ["pre_quant_scale"],
    means: "its inputs need pre_quant_scale, which is ignored for INT8",
  },
  {
    rule: "hadamard-quip",
    parts: ["hadamard_quip", "sign_row", "sign_col", "hadamard_size_in", "hadamard_size_out"],
    means: "its codes are in the space of a Hadamard transform, which is ignored",
  },
];

/** Tensors that models read by shape or value, around the layers that know of quantization. */
const READ_RAW =
  /(^|\.)(relative_attention_bias|position_embedding|pos_embed\w*|text_projection)(\.|$)/;

/** Returns the problems of one layer, in the order in which the loader would meet them. */
export function layerProblems(layer: QuantizedLayer, context: RuleContext): Problem[] {
  const problems: Problem[] = [];
  const report = reporter(problems, layer.layer);
  if (layer.origin === "scale_weight" || layer.origin === "bare") {
    checkUnmarked(report, layer, context);
    return problems;
  }
  checkAgreement(report, layer, context);
  if (layer.weightName === null) {
    checkWithoutWeight(report, layer, context);
    return problems;
  }
  if (!checkMarker(report, layer)) return problems;
  const weight = context.byName.get(layer.weightName)!;
  const format = layer.format!;
  if (!FORMATS[format]!.includes(weight.dtype)) {
    report(
      "weight-dtype",
      GARBAGE,
      `${weight.name} is ${weight.dtype}, ${format} needs ${FORMATS[format]!.join(" or ")}`,
    );
  }
  if (READ_RAW.test(layer.layer)) {
    report("read-raw", RAW_CODES, "the model reads this tensor itself, not through a linear layer");
  }
  if (format === "int8_tensorwise") checkInt8(report, layer, { weight, context });
  else checkOtherFormat(report, layer, context);
  return problems;
}

/** Returns the problems of weights that hold codes and that nothing marks as quantized. */
export function bareWeightProblems(
  tensors: Iterable<SourceTensor>,
  layers: readonly QuantizedLayer[],
): Problem[] {
  const known = new Set(layers.map(({ weightName }) => weightName));
  const problems: Problem[] = [];
  for (const { name, dtype, shape } of tensors) {
    if (dtype !== "I8" || !name.endsWith(".weight") || known.has(name)) continue;
    const report = reporter(problems, name.slice(0, -".weight".length));
    report(
      "unmarked-int8-weight",
      RAW_CODES,
      `${name} is I8 [${shape.join(", ")}] with neither comfy_quant nor scale`,
    );
  }
  return problems;
}

type Report = (rule: string, effect: string, detail: string, more?: Partial<Problem>) => void;

function reporter(problems: Problem[], layer: string): Report {
  return (rule, effect, detail, more = {}) => {
    problems.push({ layer, rule, effect, severity: "error", detail, ...more });
  };
}

function checkUnmarked(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  const weight = context.byName.get(layer.weightName!)!;
  if (weight.dtype === "I8") {
    report("unmarked-int8-weight", RAW_CODES, `it has ${layer.scaleName} and no comfy_quant`, {
      hint: "loaders of the old scale_weight layout may read it",
    });
    return;
  }
  if (layer.origin === "scale_weight" && context.hasScaledFp8) return;
  report(
    "unmarked-fp8-weight",
    "not recognised as quantized: loads the weight without its scale, computes garbage",
    layer.origin === "scale_weight"
      ? `it has ${layer.scaleName}, and the file has no tensor scaled_fp8`
      : `it has ${layer.scaleName} and no comfy_quant`,
  );
}

/** The header metadata is expanded into markers and wins. */
function checkAgreement(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  if (layer.origin !== "metadata" || layer.markerName === null) return;
  const tensor = context.byName.get(layer.markerName)!;
  const marker = context.markerObject(tensor);
  const listed = context.listed.get(layer.layer);
  if (marker === null) {
    report(
      "marker-malformed",
      "loads: the header metadata replaces this marker; readers of markers alone fail",
      `${tensor.name} is not a readable marker`,
      { severity: "warning" },
    );
    return;
  }
  const keys = new Set([
    ...Object.keys(marker),
    ...Object.keys(isJsonObject(listed) ? listed : {}),
  ]);
  const different = [...keys].filter((key) =>
    JSON.stringify(marker[key]) !== JSON.stringify((listed as Record<string, unknown>)?.[key])
  );
  if (different.length === 0) return;
  const decides = different.some((key) => ["format", "convrot", "convrot_groupsize"].includes(key));
  report(
    "metadata-disagrees",
    decides
      ? "loads by the header metadata: computes garbage if the marker is what is true"
      : "loads: the header metadata wins",
    `its marker and _quantization_metadata differ in ${different.join(", ")}`,
    { severity: decides ? "error" : "warning" },
  );
}

function checkWithoutWeight(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  if (layer.markerName === null) {
    report(
      "metadata-absent-layer",
      "loads, ignores the entry",
      "_quantization_metadata names a layer that the file does not have",
      { severity: "warning", hint: "names there are full on-disk names, prefix included" },
    );
    return;
  }
  const parts = [...context.byName.keys()].filter((name) => name.startsWith(`${layer.layer}.`));
  report(
    "marker-without-weight",
    "the layer has no weight: a missing key at load, or garbage",
    `the file has ${parts.join(", ")} and no ${partName(layer.layer, "weight")}`,
  );
}

/** Returns whether the marker names a format that the loader knows. */
function checkMarker(report: Report, layer: QuantizedLayer): boolean {
  const { marker, format } = layer;
  const problem = layer.problem ?? "";
  if (marker === null) {
    report("marker-malformed", "fails at load: the marker cannot be read", problem);
    return false;
  }
  if (format === null) {
    const effect = `ValueError "Unknown quantization format for layer ${layer.layer}" at load`;
    report("format-missing", effect, problem);
    return false;
  }
  if (!Object.hasOwn(FORMATS, format)) {
    const hint = OTHER_READERS[format];
    report(
      "format-unknown",
      "KeyError at load",
      `its format is ${JSON.stringify(format)}`,
      hint === undefined ? {} : { hint },
    );
    return false;
  }
  const flag = marker["convrot"];
  if (flag !== undefined && typeof flag !== "boolean") {
    report("marker-fields", GARBAGE, problem);
  }
  return true;
}

function checkInt8(
  report: Report,
  layer: QuantizedLayer,
  { weight, context }: { weight: SourceTensor; context: RuleContext },
): void {
  const { name, shape } = weight;
  if (shape.length !== 2 && shape.length !== 3) {
    report(
      "weight-rank",
      RAW_CODES,
      `${name} is I8 [${shape.join(", ")}]; only [N, K] linears, ` +
        "[E, N, K] expert banks and [V, D] embeddings have a quantized path",
    );
  }
  checkInt8Scale(report, layer, { weight, context });
  checkConvrot(report, layer, weight);
  for (const { rule, parts, means } of IGNORED_TRANSFORMS) {
    const there = parts.filter((part) => context.byName.has(partName(layer.layer, part)));
    if (there.length > 0) report(rule, "loads, ignores it, computes garbage", means);
  }
}

function checkInt8Scale(
  report: Report,
  layer: QuantizedLayer,
  { weight, context }: { weight: SourceTensor; context: RuleContext },
): void {
  const scale = context.byName.get(partName(layer.layer, "weight_scale"));
  if (scale === undefined) {
    const old = layer.scaleName === null ? "" : `; ${layer.scaleName} is not looked for`;
    const effect = "fails at load or at the first forward: no scale";
    report("scale-missing", effect, `it has no weight_scale${old}`);
    return;
  }
  if (scale.dtype !== "F32") {
    const effect = "fails at the first forward or computes with another precision";
    report("scale-dtype", effect, `${scale.name} is ${scale.dtype}, must be F32`);
  }
  const leading = weight.shape.slice(0, -1);
  const cols = weight.shape[weight.shape.length - 1] ?? 1;
  if (isOneValue(scale.shape) || sameShape(scale.shape, [...leading, 1])) return;
  const wanted = `must be [${[...leading, 1].join(", ")}] or []`;
  const shown = `${scale.name} is [${scale.shape.join(", ")}]`;
  if (weight.shape.length === 2 && sameShape(scale.shape, leading)) {
    report(
      "scale-1d",
      leading[0] === cols
        ? "loads; silently wrong wherever the weight is dequantized (LoRA, full precision)"
        : "loads; fails wherever the weight is dequantized (LoRA, full precision)",
      `${shown}, ${wanted}`,
    );
  } else if (weight.shape.length === 2 && sameShape(scale.shape, [1, ...leading])) {
    report("scale-shape", "loads, fails or computes garbage", `${shown}, transposed: ${wanted}`);
  } else {
    const tiles = scale.shape.length >= 2 ? ", scales of blocks" : "";
    report("scale-shape", "loads, fails or computes garbage", `${shown}${tiles}: ${wanted}`);
  }
}

function checkConvrot(report: Report, layer: QuantizedLayer, weight: SourceTensor): void {
  const marker = layer.marker!;
  if (marker["convrot"] !== true) return;
  if (layer.convrotGroupSize === null) {
    const group = JSON.stringify(marker["convrot_groupsize"]);
    report("convrot-group-size", FIRST_FORWARD, `convrot_groupsize is ${group}, no power of 4`);
    return;
  }
  const cols = weight.shape[weight.shape.length - 1] ?? 1;
  if (cols % layer.convrotGroupSize !== 0) {
    const detail = `the group ${layer.convrotGroupSize} does not divide its ${cols} columns`;
    report("convrot-group-divides", FIRST_FORWARD, detail);
  }
  const { scaleShape } = layer;
  // One row has one scale: [1, 1] is per row there, [] is not.
  const perRow = scaleShape !== null && sameShape(scaleShape, [...weight.shape.slice(0, -1), 1]);
  if (scaleShape !== null && isOneValue(scaleShape) && !perRow) {
    report("convrot-scalar-scale", FIRST_FORWARD, "a rotated weight needs one scale per row");
  }
}

function checkOtherFormat(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  const scale = context.byName.get(partName(layer.layer, "weight_scale"));
  const effect = "fails at load or at the first forward: no scale";
  if (scale === undefined) report("scale-missing", effect, "it has no weight_scale");
  const second = partName(layer.layer, "weight_scale_2");
  if (layer.format === "nvfp4" && !context.byName.has(second)) {
    report("scale-missing", effect, "it has no weight_scale_2");
  }
  if (scale === undefined || !layer.format!.startsWith("float8")) return;
  if (scale.dtype !== "F32" || !isOneValue(scale.shape)) {
    report(
      "scale-shape",
      "loads; not every matmul path takes such a scale",
      `${scale.name} is ${scale.dtype} [${scale.shape.join(", ")}], stock files have F32 []`,
      { severity: "warning" },
    );
  }
}

function isOneValue(shape: readonly number[]): boolean {
  return shape.every((size) => size === 1);
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
