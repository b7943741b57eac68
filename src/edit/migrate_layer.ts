/**
 * How one layer becomes loadable by stock ComfyUI: what its marker should say, whether its scales can be
 * stated anew without changing a value, and if not, how it is rounded once more. Pure but for markers and
 * scales, which the caller reads.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { isRefusal } from "../formats/format.ts";
import { partName } from "../formats/layer_tensors.ts";
import { type ReadBytes, readQuantizationMetadata } from "../formats/marker_reader.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { claimByTensors, type QuantizedLayer } from "../formats/quant_layers.ts";
import { FORMATS } from "../formats/registry.ts";
import { decodeLayer, tensorsByName } from "../formats/stored_matrix.ts";
import { layerProblems } from "../formats/verify_rules.ts";
import { scaleValueProblems } from "../formats/verify_values.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type LayerObject, sameObject, writeMarker } from "./layer_objects.ts";
import type { Operation } from "./operation.ts";
import type { LayerMigration, Refusal } from "./layer_migration.ts";
import { isStoredAs, requantizeLayer, schemeAskedFor } from "./requantize_layer.ts";
import { exactScales, repeatedScales } from "./scale_values.ts";

/** The object of a layer that no marker describes. */
const UNMARKED: LayerObject = Object.freeze({});

/**
 * Returns what becomes of a layer with a weight, or why nothing can.
 *
 * @param layer its weight is there.
 * @param asked with the format that layers get though they load; null: those that load stay.
 * @throws what `readBytes` throws.
 */
export function migrateLayer(
  source: ModelSource,
  layer: QuantizedLayer,
  readBytes: ReadBytes,
  asked: ConvertOptions | null,
): LayerMigration | Refusal {
  const refuse = (rule: string, why: string): Refusal => ({ layer: layer.layer, rule, why });
  const byName = tensorsByName(source);
  const listed = readQuantizationMetadata(source.metadata).layers;
  const errors = layerProblems(layer, { byName, listed, readBytes })
    .filter(({ severity, rule }) => severity === "error" && !MARKER_ONLY.includes(rule));
  const flat = layer.marker ?? UNMARKED;
  const known = layer.format === null ? claimByTensors(layer) : layer;
  if (known.problem !== null) {
    const rule = known.rule === "unknown-layout" ? errors[0]?.rule : known.rule;
    return refuse(rule ?? "layer-inconsistent", known.problem);
  }
  const matrix = decodeLayer(known);
  // Without a marker the loader finds it by the tensor scaled_fp8.
  const isUnmarked = layer.origin === "unmarked";
  if (errors.length === 0 && (layer.format !== null || isUnmarked)) {
    const isDone = asked === null || isStoredAs(known, asked);
    const kept = isDone ? null : whyKept(known, matrix, asked);
    if (isDone || kept !== null) {
      const operations = isUnmarked ? [] : markerChange(source, layer, flat, readBytes);
      const object = isUnmarked ? null : flat;
      return { layer, matrix: null, object, operations, ...(kept === null ? {} : { kept }) };
    }
  }
  if (isRefusal(matrix)) {
    const rule = known.kind === null
      ? "format-unknown"
      : errors.at(-1)?.rule ?? "layer-inconsistent";
    return refuse(rule, matrix.why);
  }
  const weight = byName.get(layer.weightName!)!;
  const odd = scaleValueProblems(known, byName, { readBytes })
    .find(({ severity }) => severity === "error");
  if (odd !== undefined) return refuse(odd.rule, odd.detail);
  const before = layer.rawMarker ?? UNMARKED;
  const requantize = () =>
    requantizeLayer(
      { layer: known, weight, matrix, before, asked },
      renameInputScale(source, known),
    );
  if (asked !== null && !isStoredAs(known, asked)) return requantize();
  const stated = FORMATS.map(({ states }) => states?.(matrix) ?? null)
    .find((marker) => marker !== null);
  const scale = known.found?.scale;
  const scales = stated === undefined || stated === null || scale === undefined
    ? null
    : exactScales(scale.dtype, readBytes(scale));
  if (stated === undefined || stated === null || scale === undefined || scales === null) {
    return requantize();
  }
  const name = known.found?.name ?? weight.name;
  return stateExactly(source, layer, { weight, name, scale, scales, matrix, stated, readBytes });
}

/** The same values, as the loader wants them said. */
function stateExactly(
  source: ModelSource,
  layer: QuantizedLayer,
  { weight, name, scale, scales, matrix, stated, readBytes }: {
    weight: SourceTensor;
    name: string;
    scale: SourceTensor;
    scales: Float32Array;
    matrix: MatrixSource;
    stated: LayerObject;
    readBytes: ReadBytes;
  },
): LayerMigration {
  const after = markerAfter(layer.marker ?? UNMARKED, stated);
  return {
    layer,
    matrix: null,
    object: after,
    operations: [
      ...markerChange(source, layer, after, readBytes),
      ...renameCodes(layer, { weight, name }),
      ...restateScale(layer, { weight, scale, scales, matrix }),
      ...renameInputScale(source, layer),
    ],
  };
}

/** Why a layer that loads stays as it is; null: it gets the format that was asked for. */
function whyKept(
  layer: QuantizedLayer,
  matrix: ReturnType<typeof decodeLayer>,
  asked: ConvertOptions,
): string | null {
  if (isRefusal(matrix)) return matrix.why;
  const scheme = schemeAskedFor(layer, matrix, asked);
  return typeof scheme === "string" ? scheme : null;
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
