/**
 * How one layer becomes loadable by stock ComfyUI: what its marker should say, whether its scales can be
 * stated anew without changing a value, and where not, how it is rounded once more. Pure but for markers
 * and scales, which the caller reads.
 */

import type { DType } from "../core/dtype.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import { isJsonObject, JsonError, parseJsonStrict } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type QuantizedLayer, type ReadBytes, readMarker } from "../formats/quant_layers.ts";
import { resolveMode, schemeFor } from "../plan/mode.ts";
import { markerOf } from "../formats/marker.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../plan/options.ts";
import { LAYER_PARTS, partName, storedMatrix, tensorsByName } from "../formats/stored_matrix.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { IGNORED_TRANSFORMS } from "../formats/verify_int8_rules.ts";
import { type LayerObject, sameObject, writeMarker } from "./layer_objects.ts";
import type { Operation } from "./operation.ts";
import { exactScales, repeatedScales } from "./scale_values.ts";

/** What becomes of one layer. */
export interface LayerMigration {
  readonly layer: QuantizedLayer;
  /** Empty: it is as it should be. */
  readonly operations: readonly Operation[];
  /** What the marker says afterwards; null where it is left alone. */
  readonly object: LayerObject | null;
  /** How its stored values are read, where they are rounded once more; else null. */
  readonly matrix: MatrixSource | null;
}

/** A layer that cannot be made loadable. */
export interface Refusal {
  readonly layer: string;
  /** Id of the rule, as `verify` names it. */
  readonly rule: string;
  /** What is in the way, as a sentence without its period. */
  readonly why: string;
}

/** The formats of one-byte floats that stock ComfyUI reads. */
const FLOAT8_FORMATS: Readonly<Partial<Record<DType, string>>> = {
  F8_E4M3: "float8_e4m3fn",
  F8_E5M2: "float8_e5m2",
};

/** Formats of stock ComfyUI whose scales are left as they are. */
const STOCK_FORMATS = ["float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8"];

/** Parts of a layer that stay, or are written anew, where its weight is rounded once more. */
const KEPT_PARTS = ["comfy_quant", "weight_scale", "input_scale", "scale_input"];

/** Longer tensors are no markers. */
const MAX_MARKER_BYTES = 65_536;

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
  const before = objectOf(source, layer, readBytes);
  if (before === null) return refuse("marker-malformed", layer.problem ?? "it cannot be read");
  const flat = withoutParams(before);
  if (typeof flat === "string") return refuse("marker-params", flat);
  const weight = tensorsByName(source).get(layer.weightName!)!;
  const asked = typeof flat["format"] === "string" ? flat["format"] : null;
  const float8 = FLOAT8_FORMATS[weight.dtype];
  const format = asked ?? float8 ?? null;
  if (format !== null && STOCK_FORMATS.includes(format)) {
    return migrateFloat8(source, { layer, before, after: { ...flat, format }, readBytes });
  }
  const known: QuantizedLayer = {
    ...layer,
    ...readMarker({ format: "int8_tensorwise", ...flat }, layer),
    // Without a format, the shape of the scales decides.
    format,
  };
  let matrix: MatrixSource;
  try {
    matrix = storedMatrix(source, weight, known);
  } catch (error) {
    if (error instanceof FormatError) return refuse(faultOf(known), error.rule);
    if (!(error instanceof UnsupportedError)) throw error;
    return refuse(ruleOf(source, layer), error.message.replace(/^[^:]*: /, ""));
  }
  const after = withFormat(flat);
  if (weight.dtype !== "I8" || matrix.scale === null) {
    return requantize(source, known, { weight, matrix, before, after });
  }
  const scale = tensorsByName(source).get(layer.scaleName!)!;
  const isWide = matrix.scale.groupCols >= matrix.cols;
  const scales = isWide ? exactScales(scale.dtype, readBytes(scale)) : null;
  if (scales === null) return requantize(source, known, { weight, matrix, before, after });
  return {
    layer,
    matrix: null,
    object: after,
    operations: [
      ...markerChange(layer, before, after),
      ...restateScale(layer, { weight, scale, scales, matrix }),
      ...renameInputScale(source, layer),
    ],
  };
}

/** What the marker says; null where it is there and cannot be read. */
function objectOf(
  source: ModelSource,
  layer: QuantizedLayer,
  readBytes: ReadBytes,
): LayerObject | null {
  if (layer.marker !== null) return layer.marker;
  if (layer.origin === "metadata") return null;
  if (layer.markerName === null) return UNMARKED;
  // Padded markers are the one fault that has only one reading.
  const tensor = tensorsByName(source).get(layer.markerName)!;
  if (tensor.dtype !== "U8" || tensor.byteLength > MAX_MARKER_BYTES) return null;
  const text = new TextDecoder().decode(readBytes(tensor)).replace(/\0+$/, "");
  try {
    const value = parseJsonStrict(text);
    return isJsonObject(value) ? value : null;
  } catch (error) {
    if (error instanceof JsonError) return null;
    throw error;
  }
}

/** Returns the object with the members of `params` beside its own, or why they contradict one another. */
function withoutParams(object: LayerObject): LayerObject | string {
  if (!isJsonObject(object["params"])) return object;
  const { params, ...own } = object;
  for (const [key, value] of Object.entries(params as LayerObject)) {
    if (Object.hasOwn(own, key) && !sameObject(own[key], value)) {
      return `its marker and the "params" in it differ in ${JSON.stringify(key)}`;
    }
  }
  return { ...own, ...params as LayerObject };
}

/** The object with the one INT8 format of stock ComfyUI; the size of blocks goes with the blocks. */
function withFormat(object: LayerObject): LayerObject {
  const { format, ...rest } = object;
  if (format !== "int8_blockwise") return { format: "int8_tensorwise", ...rest };
  const { group_size: _, ...others } = rest;
  return { format: "int8_tensorwise", ...others };
}

function markerChange(
  layer: QuantizedLayer,
  before: LayerObject,
  after: LayerObject,
): Operation[] {
  const isWritten = layer.marker !== null && layer.problem === null;
  if (isWritten && sameObject(before, after)) return [];
  const was = typeof before["format"] === "string" ? before["format"] : null;
  const detail = layer.markerName === null && layer.origin !== "metadata"
    ? `marker written: ${after["format"]}`
    : was === after["format"]
    ? "marker put right"
    : `format ${was ?? "missing"} -> ${after["format"]}`;
  return [writeMarker(layer, after, detail)];
}

/** Rounds the weight once more, as a conversion does by default. */
function requantize(
  source: ModelSource,
  layer: QuantizedLayer,
  { weight, matrix, before, after }: {
    weight: SourceTensor;
    matrix: MatrixSource;
    before: LayerObject;
    after: LayerObject;
  },
): LayerMigration {
  const { rows, cols } = matrix;
  const mode = resolveMode(DEFAULT_CONVERT_OPTIONS);
  const { scheme } = schemeFor(mode, { rows, cols, heur: false });
  const { convrot: _, convrot_groupsize: _size, ...rest } = after;
  const object = { ...rest, ...markerOf(scheme!, { fullPrecisionMatrixMult: false }) };
  const was = before["format"] ?? `${weight.dtype} with ${layer.scaleName}`;
  const rotation = scheme!.convrotGroupSize;
  const how = rotation === null ? "rows" : `rows, convrot ${rotation}`;
  const byName = tensorsByName(source);
  const obsolete = LAYER_PARTS.filter((part) => !KEPT_PARTS.includes(part))
    .map((part) => partName(layer.layer, part))
    .filter((name) => byName.has(name));
  return {
    layer,
    matrix,
    object,
    operations: [
      writeMarker(layer, object, `format ${was} -> ${object.format}`),
      {
        kind: "requantize",
        tensor: weight.name,
        scheme: scheme!,
        scale: {
          name: partName(layer.layer, "weight_scale"),
          dtype: "F32",
          shape: [...weight.shape.slice(0, -1), 1],
        },
        place: layer.layer,
        detail: `dequantized and rounded once more (${how})`,
      },
      ...obsolete.map((tensor): Operation => ({
        kind: "remove",
        tensor,
        place: layer.layer,
        detail: `${tensor} removed`,
      })),
      ...renameInputScale(source, layer),
    ],
  };
}

/** States the scales of rows as `[..., N, 1]`, a single one as `[]` where its weight is not rotated. */
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
    ...(scale.name === name ? ["weight_scale"] : ["scale_weight -> weight_scale"]),
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

/** A layer of floats of one byte, or of another format that stock ComfyUI reads. */
function migrateFloat8(
  source: ModelSource,
  { layer, before, after, readBytes }: {
    layer: QuantizedLayer;
    before: LayerObject;
    after: LayerObject;
    readBytes: ReadBytes;
  },
): LayerMigration {
  const byName = tensorsByName(source);
  const scale = layer.scaleName === null ? undefined : byName.get(layer.scaleName);
  const name = partName(layer.layer, "weight_scale");
  const scales = scale === undefined || scale.name === name
    ? null
    : exactScales(scale.dtype, readBytes(scale));
  const isOld = layer.origin === "scale_weight";
  const operations = markerChange(layer, before, after);
  if (isOld && scales !== null) {
    const shape = scales.length === 1 ? [] : scale!.shape;
    const detail = "scale_weight -> weight_scale";
    const bytes = repeatedScales(scales, { rows: scales.length, groupRows: 1 });
    operations.push(
      {
        kind: "write",
        tensor: scale!.name,
        info: { name, dtype: "F32", shape },
        bytes,
        place: layer.layer,
        detail,
      },
      { kind: "remove", tensor: scale!.name, place: layer.layer, detail },
      ...renameInputScale(source, layer),
    );
  }
  return { layer, matrix: null, object: after, operations };
}

/** The rule that a layer breaks whose parts do not fit together. */
function faultOf({ problem, scaleName }: QuantizedLayer): string {
  if (problem !== null) return "marker-fields";
  return scaleName === null ? "scale-missing" : "layer-inconsistent";
}

/** The rule by which stock ComfyUI would compute garbage, or that of a format no one knows. */
function ruleOf(source: ModelSource, { layer }: QuantizedLayer): string {
  const byName = tensorsByName(source);
  const transform = IGNORED_TRANSFORMS.find(({ parts }) =>
    parts.some((part) => byName.has(partName(layer, part)))
  );
  return transform?.rule ?? "format-unknown";
}
