/**
 * How one layer becomes loadable by stock ComfyUI: what its marker should say, whether its scales can be
 * stated anew without changing a value, and if not, how it is rounded once more. Pure but for markers and
 * scales, which the caller reads.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { isRefusal } from "../formats/format.ts";
import { partName } from "../formats/layer_tensors.ts";
import { markerOf } from "../formats/marker.ts";
import { type ReadBytes, readQuantizationMetadata } from "../formats/marker_reader.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { claimByTensors, type QuantizedLayer } from "../formats/quant_layers.ts";
import { FORMATS } from "../formats/registry.ts";
import { decodeLayer, tensorsByName } from "../formats/stored_matrix.ts";
import { layerProblems } from "../formats/verify_rules.ts";
import { scaleValueProblems } from "../formats/verify_values.ts";
import { resolveMode, schemeFor } from "../plan/scheme_choice.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../plan/options.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type LayerObject, sameObject, writeMarker } from "./layer_objects.ts";
import type { Operation } from "./operation.ts";
import { exactScales, repeatedScales } from "./scale_values.ts";

/** Migration of one layer. */
export interface LayerMigration {
  readonly layer: QuantizedLayer;
  /** Empty: it is as it should be. */
  readonly operations: readonly Operation[];
  /** Its new marker; null: it is left alone. */
  readonly object: LayerObject | null;
  /** How its stored values are read, if they are rounded once more; else null. */
  readonly matrix: MatrixSource | null;
}

/** A layer that cannot be made loadable. */
export interface Refusal {
  readonly layer: string;
  /** Id of the rule, as `verify` names it. */
  readonly rule: string;
  /** The obstacle, as a sentence without its period. */
  readonly why: string;
}

/** Scales of inputs: they stay if the weight is rounded once more. */
const INPUT_SCALES = ["input_scale", "scale_input"];

/** Keys of markers that say how codes are stored, and nothing else. */
const STORING_KEYS = [
  "format",
  "group_size",
  "block_size",
  "convrot",
  "convrot_groupsize",
  "linear_dtype",
  "out_features",
  "in_features",
];

/** The object of a layer that no marker describes. */
const UNMARKED: LayerObject = Object.freeze({});

/**
 * Returns what becomes of a layer with a weight, or why nothing can.
 *
 * @param layer its weight is there.
 * @throws what `readBytes` throws.
 */
export function migrateLayer(
  source: ModelSource,
  layer: QuantizedLayer,
  readBytes: ReadBytes,
): LayerMigration | Refusal {
  const refuse = (rule: string, why: string): Refusal => ({ layer: layer.layer, rule, why });
  const byName = tensorsByName(source);
  const listed = readQuantizationMetadata(source.metadata).layers;
  const errors = layerProblems(layer, { byName, listed, readBytes })
    .filter(({ severity, rule }) => severity === "error" && !MARKER_ONLY.includes(rule));
  const before = layer.rawMarker ?? UNMARKED, flat = layer.marker ?? UNMARKED;
  const known = layer.format === null ? claimByTensors(layer) : layer;
  if (known.problem !== null) {
    const rule = known.rule === "unknown-layout" ? errors[0]?.rule : known.rule;
    return refuse(rule ?? "layer-inconsistent", known.problem);
  }
  if (errors.length === 0 && layer.format !== null) {
    return {
      layer,
      matrix: null,
      object: flat,
      operations: markerChange(source, layer, flat, readBytes),
    };
  }
  if (errors.length === 0 && layer.origin === "unmarked") {
    // The loader finds it by the tensor scaled_fp8.
    return { layer, matrix: null, object: null, operations: [] };
  }
  const matrix = decodeLayer(known);
  if (isRefusal(matrix)) {
    const rule = known.kind === null
      ? "format-unknown"
      : errors.at(-1)?.rule ?? "layer-inconsistent";
    return refuse(rule, matrix.why);
  }
  const weight = byName.get(layer.weightName!)!;
  const [odd] = scaleValueProblems(known, byName, { readBytes });
  if (odd !== undefined) return refuse(odd.rule, odd.detail);
  const stated = FORMATS.map(({ states }) => states?.(matrix) ?? null)
    .find((marker) => marker !== null);
  const scale = known.found?.scale;
  const scales = stated === undefined || stated === null || scale === undefined
    ? null
    : exactScales(scale.dtype, readBytes(scale));
  if (stated === undefined || stated === null || scale === undefined || scales === null) {
    return requantize(source, known, { weight, matrix, before });
  }
  const after = markerAfter(flat, stated);
  return {
    layer,
    matrix: null,
    object: after,
    operations: [
      ...markerChange(source, layer, after, readBytes),
      ...renameCodes(layer, { weight, name: known.found?.name ?? weight.name }),
      ...restateScale(layer, { weight, scale, scales, matrix }),
      ...renameInputScale(source, layer),
    ],
  };
}

/** A marker in words that the loader knows, with what else it says. */
function markerAfter(before: LayerObject, stated: LayerObject): LayerObject {
  const kept = Object.entries(before).filter(([key]) => key !== "format" && key !== "group_size");
  return { format: stated["format"], ...Object.fromEntries(kept), ...stated };
}

/** Rules that a marker written anew keeps. */
const MARKER_ONLY = ["format-missing", "marker-malformed"];

/** Writes the marker anew, unless it says the same in the same words already. */
function markerChange(
  source: ModelSource,
  layer: QuantizedLayer,
  after: LayerObject,
  readBytes: ReadBytes,
): Operation[] {
  const before = layer.rawMarker ?? UNMARKED;
  const tensor = layer.markerName === null
    ? undefined
    : tensorsByName(source).get(layer.markerName);
  const isSpelledOff = layer.listedAs !== null && layer.listedAs !== layer.layer;
  const isPadded = tensor !== undefined && readBytes(tensor).at(-1) === 0;
  const isFit = layer.problem === null && !isPadded && !isSpelledOff;
  if (layer.rawMarker !== null && isFit && sameObject(before, after)) return [];
  const was = typeof before["format"] === "string" ? before["format"] : null;
  const detail = layer.markerName === null && layer.origin !== "metadata"
    ? `marker written: ${after["format"]}`
    : was === after["format"]
    ? "marker put right"
    : `format ${was ?? "missing"} -> ${after["format"]}`;
  return [writeMarker(layer, after, detail)];
}

/** Rounds the weight once more, as a conversion does by default; banks of experts without rotation. */
function requantize(
  source: ModelSource,
  layer: QuantizedLayer,
  { weight, matrix, before }: {
    weight: SourceTensor;
    matrix: MatrixSource;
    before: LayerObject;
  },
): LayerMigration {
  const { rows, cols } = matrix;
  const { name = weight.name, shape = weight.shape } = layer.found ?? {};
  const isBank = shape.length > 2;
  // A rotated bank is read without its rotation by ComfyUI 0.33.0; plain rows are right everywhere.
  const mode = resolveMode({ ...DEFAULT_CONVERT_OPTIONS, ...(isBank ? { convrot: "off" } : {}) });
  const { scheme } = schemeFor(mode, { rows, cols, heur: false });
  const kept = Object.entries(layer.marker ?? {}).filter(([key]) => !STORING_KEYS.includes(key));
  const object: LayerObject = {
    ...Object.fromEntries(kept),
    ...markerOf(scheme!, { fullPrecisionMatrixMult: false }),
    ...(isBank ? { num_experts: shape[0] } : {}),
  };
  const was = before["format"] ?? layer.kind?.title ?? weight.dtype;
  const rotation = scheme!.convrotGroupSize;
  const how = rotation === null ? "rows" : `rows, convrot ${rotation}`;
  const scaleName = partName(layer.layer, "weight_scale");
  const staying = new Set([
    scaleName,
    layer.markerName,
    ...INPUT_SCALES.map((part) => partName(layer.layer, part)),
  ]);
  return {
    layer,
    matrix,
    object,
    operations: [
      writeMarker(layer, object, `format ${was} -> ${object["format"]}`),
      {
        kind: "requantize",
        tensor: weight.name,
        weight: { name, shape },
        scheme: scheme!,
        scale: { name: scaleName, dtype: "F32", shape: [...shape.slice(0, -1), 1] },
        place: layer.layer,
        detail: `dequantized and rounded once more (${how})`,
      },
      ...layer.partNames.filter((part) => !staying.has(part)).map((tensor): Operation => ({
        kind: "remove",
        tensor,
        place: layer.layer,
        detail: `${tensor} removed`,
      })),
      ...renameInputScale(source, layer),
    ],
  };
}

/** Codes that their format keeps under another name than `weight`. */
function renameCodes(
  { layer }: QuantizedLayer,
  { weight, name }: { weight: SourceTensor; name: string },
): Operation[] {
  if (weight.name === name) return [];
  const detail = `${weight.name.slice(layer.length + 1)} -> ${name.slice(layer.length + 1)}`;
  return [{
    kind: "restate",
    tensor: weight.name,
    name,
    shape: weight.shape,
    place: layer,
    detail,
  }];
}

/** States the scales of rows as `[..., N, 1]`, a single one as `[]` if its weight is not rotated. */
function restateScale(
  layer: QuantizedLayer,
  { weight, scale, scales, matrix }: {
    weight: SourceTensor;
    scale: SourceTensor;
    scales: Float32Array;
    matrix: MatrixSource;
  },
): Operation[] {
  const perRow = [...weight.shape.slice(0, -1), 1];
  const isScalar = scales.length === 1 && matrix.convrotGroupSize === null;
  const isFit = isScalar || sameObject(scale.shape, perRow);
  const name = partName(layer.layer, "weight_scale");
  if (isFit && scale.name === name && scale.dtype === "F32") return [];
  const shape = isScalar ? (scale.name === name ? scale.shape : []) : perRow;
  const groupRows = Math.max(1, matrix.scale!.groupRows);
  const isRepeated = !isScalar && scales.length !== matrix.rows;
  const told = [
    ...(scale.name === name
      ? ["weight_scale"]
      : [`${scale.name.slice(layer.layer.length).replace(/^[._]/, "")} -> weight_scale`]),
    ...(scale.dtype === "F32" ? [] : [`${scale.dtype} -> F32`]),
    ...(sameObject(scale.shape, shape)
      ? []
      : [`[${scale.shape.join(", ")}] -> [${shape.join(", ")}]`]),
  ];
  const detail = told.join(", ");
  const place = { place: layer.layer, detail };
  if (scale.dtype === "F32" && !isRepeated) {
    return [{ kind: "restate", tensor: scale.name, name, shape, ...place }];
  }
  const bytes = isRepeated
    ? repeatedScales(scales, { rows: matrix.rows, groupRows })
    : repeatedScales(scales, { rows: scales.length, groupRows: 1 });
  return [
    { kind: "write", tensor: scale.name, info: { name, dtype: "F32", shape }, bytes, ...place },
    ...(scale.name === name
      ? []
      : [{ kind: "remove", tensor: scale.name, ...place } satisfies Operation]),
  ];
}

/** The old layout calls it `scale_input`. */
function renameInputScale(source: ModelSource, { layer }: QuantizedLayer): Operation[] {
  const byName = tensorsByName(source);
  const old = byName.get(partName(layer, "scale_input"));
  const name = partName(layer, "input_scale");
  if (old === undefined || byName.has(name)) return [];
  return [{
    kind: "restate",
    tensor: old.name,
    name,
    shape: old.shape,
    place: layer,
    detail: "scale_input -> input_scale",
  }];
}
