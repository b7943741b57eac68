/**
 * The rules of the stock ComfyUI loader for quantized layers, as far as names, dtypes, shapes and
 * markers decide; pure. The rules on values are in `verify_values.ts`.
 */

import type { DType } from "../core/dtype.ts";
import { isJsonObject } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { type Problem, RAW_CODES, type Report, reporter } from "./problem.ts";
import { rawModule } from "../presets/unusable.ts";
import { partName } from "./stored_matrix.ts";
import { checkInt8, isOneValue } from "./verify_int8_rules.ts";

export type { Problem };

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
  const raw = rawModule(weight);
  if (raw !== null) report(raw.rule, raw.effect, raw.what);
  if (format === "int8_tensorwise") checkInt8(report, layer, { weight, byName: context.byName });
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
