/**
 * The rules of the stock ComfyUI loader for quantized layers, as far as names, dtypes, shapes and markers
 * decide; pure. Those of one format are in its file, those on values in `verify_values.ts`.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { isJsonObject } from "../core/json.ts";
import { rawModule } from "../presets/unusable.ts";
import { isScaledFp8, parseMarker, type ReadBytes } from "./marker_reader.ts";
import { type Problem, RAW_CODES, type Report, reporter, reportForeignMarker } from "./problem.ts";
import { isRefusal } from "./format.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { decodeLayer } from "./stored_matrix.ts";

export type { Problem };

/** Facts that the rules use beside the layer itself. */
export interface RuleContext {
  readonly byName: ReadonlyMap<string, SourceTensor>;
  /** Objects of the header's `_quantization_metadata`, by the name that they have there. */
  readonly listed: ReadonlyMap<string, unknown>;
  readonly readBytes: ReadBytes;
}

/** Returns the problems of one layer, in the order in which the loader would meet them. */
export function layerProblems(layer: QuantizedLayer, context: RuleContext): Problem[] {
  const problems: Problem[] = [];
  const report = reporter(problems, layer.layer);
  const { kind, found, tensors, origin } = layer;
  if (origin !== "unmarked") {
    checkAgreement(report, layer, context);
    if (layer.weightName === null) {
      checkWithoutWeight(report, layer, context);
      return problems;
    }
    if (!checkMarker(report, layer, context)) return problems;
  } else if (layer.markerName !== null) checkPadding(report, layer, context);
  if (kind === null || found === null) {
    const problem = layer.problem ?? `its format is ${JSON.stringify(layer.format)}`;
    if (layer.rule === "half-layer") {
      report(layer.rule, "the layer has no weight: a missing key at load, or garbage", problem);
      return problems;
    }
    const dtype = context.byName.get(layer.weightName!)?.dtype;
    const isInt8 = layer.rule === "unknown-layout" && dtype === "I8";
    report(isInt8 ? "unmarked-int8-weight" : layer.rule ?? "unknown-layout", RAW_CODES, problem);
    return problems;
  }
  if (layer.rule === "strange-companion" || layer.rule === "metadata-disagrees") {
    report(layer.rule, "loads, ignores it, computes garbage", layer.problem!);
  }
  const { codes, name = codes.name, shape = codes.shape } = found;
  const raw = origin === "unmarked" ? null : rawModule({ ...codes, name, shape });
  if (raw !== null) report(raw.rule, raw.effect, raw.what);
  const hasScaledFp8 = [...context.byName.keys()].some(isScaledFp8);
  kind.problems(report, tensors, found, { hasScaledFp8 });
  return origin === "unmarked" ? withRefusal(problems, layer) : problems;
}

/** Says with the last problem of a layer why its values cannot be read here either. */
function withRefusal(problems: Problem[], layer: QuantizedLayer): Problem[] {
  const decoded = decodeLayer(layer), last = problems.at(-1);
  if (last === undefined || !isRefusal(decoded) || last.detail.includes(decoded.why)) {
    return problems;
  }
  return [...problems.slice(0, -1), { ...last, detail: `${last.detail}; ${decoded.why}` }];
}

/** The header metadata is expanded into markers and wins. */
function checkAgreement(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  if (layer.origin !== "metadata" || layer.markerName === null) return;
  const tensor = context.byName.get(layer.markerName)!;
  const { object: marker, nulBytes } = parseMarker(tensor, context.readBytes);
  const listed = context.listed.get(layer.listedAs ?? layer.layer);
  if (!isJsonObject(marker) || nulBytes > 0) {
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
  const decides = different.some((key) => DECIDING_KEYS.includes(key));
  report(
    "metadata-disagrees",
    decides
      ? "loads by the header metadata: computes garbage if the marker is what is true"
      : "loads: the header metadata wins",
    `its marker and _quantization_metadata differ in ${different.join(", ")}`,
    { severity: decides ? "error" : "warning" },
  );
}

/** Keys of markers that change what the codes stand for. */
const DECIDING_KEYS = ["format", "convrot", "convrot_groupsize", "group_size", "params"];

function checkWithoutWeight(report: Report, layer: QuantizedLayer, context: RuleContext): void {
  if (layer.markerName === null) {
    report(
      "metadata-absent-layer",
      "loads, ignores the entry: whatever it means is not read as quantized",
      `_quantization_metadata names ${JSON.stringify(layer.layer)}, and the file has no such layer`,
      { hint: "names there are those of the file, with or without the model's prefix" },
    );
    return;
  }
  const parts = [...context.byName.keys()].filter((name) => name.startsWith(`${layer.layer}.`));
  report(
    "marker-without-weight",
    "the layer has no weight: a missing key at load, or garbage",
    `the file has ${parts.join(", ")} and no ${layer.layer}.weight`,
  );
}

/** Returns whether the marker names a format that the loader knows. */
function checkMarker(report: Report, layer: QuantizedLayer, context: RuleContext): boolean {
  const { marker, rawMarker, format } = layer;
  const problem = layer.problem ?? "";
  if (marker === null) {
    const rule = layer.rule ?? "marker-malformed";
    report(rule, "fails at load or by the keys at the top: the marker cannot be read", problem);
    return false;
  }
  if (layer.origin === "comfy_quant") checkPadding(report, layer, context);
  if (typeof rawMarker?.["format"] !== "string") {
    const effect = `ValueError "Unknown quantization format for layer ${layer.layer}" at load`;
    report("format-missing", effect, problem || 'its "format" is not at the top of the marker');
    return false;
  }
  if (layer.kind === null && layer.problem === null) {
    reportForeignMarker(report, format!);
    return false;
  }
  const flag = marker["convrot"];
  if (flag !== undefined && typeof flag !== "boolean") {
    report("marker-fields", "loads, computes garbage", problem);
  }
  return true;
}

/** Bytes after the JSON: `json.loads` of the loader refuses them. */
function checkPadding(
  report: Report,
  { markerName }: QuantizedLayer,
  { byName, readBytes }: RuleContext,
): void {
  const tensor = markerName === null ? undefined : byName.get(markerName);
  if (tensor === undefined) return;
  const { nulBytes } = parseMarker(tensor, readBytes);
  if (nulBytes === 0) return;
  report(
    "marker-malformed",
    "fails at load: the marker cannot be read",
    `${tensor.name} has ${nulBytes} NUL ${nulBytes === 1 ? "byte" : "bytes"} at its end`,
    { hint: "`quantsmith migrate` writes it anew" },
  );
}
