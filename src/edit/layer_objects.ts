/**
 * The statements of a file about its quantized layers, in both places: the `comfy_quant` tensors and the header's
 * `_quantization_metadata`. Pure.
 */

import { FormatError } from "../core/errors.ts";
import { isJsonObject, parseJsonStrict } from "../core/json.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import {
  parseMarker,
  QUANTIZATION_METADATA_KEY,
  type ReadBytes,
  readQuantizationMetadata,
} from "../formats/marker_reader.ts";
import { partName } from "../formats/layer_tensors.ts";
import { markerBytes } from "../formats/marker.ts";
import type { QuantizedLayer } from "../formats/quant_layers.ts";
import { tensorsByName } from "../formats/stored_matrix.ts";
import type { Operation } from "./operation.ts";

/** The object that says how a layer is quantized. */
export type LayerObject = Readonly<Record<string, unknown>>;

/** Both objects of one layer. */
export interface LayerObjects {
  readonly layer: QuantizedLayer;
  /** Of the tensor `L.comfy_quant`; null if there is none. */
  readonly marker: LayerObject | null;
  /** Of `_quantization_metadata`; null if it is not listed. */
  readonly listed: LayerObject | null;
}

/**
 * Returns both objects of a layer.
 *
 * @throws FormatError naming the tensor or the metadata if one is there and cannot be read.
 */
export function objectsOf(
  source: ModelSource,
  layer: QuantizedLayer,
  { readBytes, listed }: { readBytes: ReadBytes; listed: ReadonlyMap<string, unknown> },
): LayerObjects {
  const name = JSON.stringify(layer.layer);
  const key = layer.listedAs ?? layer.layer;
  const entry = listed.get(key) ?? null;
  if (listed.has(key) && !isJsonObject(entry)) {
    throw new FormatError(`the entry of ${name} in the metadata is not an object`, {
      path: source.path,
    });
  }
  let marker: LayerObject | null = null;
  if (layer.markerName !== null) {
    const tensor = tensorsByName(source).get(layer.markerName)!;
    const { object: parsed } = parseMarker(tensor, readBytes);
    if (typeof parsed === "string") {
      const place = { path: source.path, tensor: tensor.name, offsetBytes: tensor.offsetBytes };
      throw new FormatError(`the marker ${parsed}`, place);
    }
    marker = parsed;
  }
  return { layer, marker, listed: isJsonObject(entry) ? entry : null };
}

/**
 * Returns what the metadata lists, by layer.
 *
 * @throws FormatError if the metadata is there and cannot be read.
 */
export function listedLayers(source: ModelSource): ReadonlyMap<string, unknown> {
  const { layers, problem } = readQuantizationMetadata(source.metadata);
  if (problem !== null) throw new FormatError(problem, { path: source.path });
  return layers;
}

/** Returns the operation that makes `object` the marker of a layer. */
export function writeMarker(layer: QuantizedLayer, object: LayerObject, detail: string): Operation {
  const name = partName(layer.layer, "comfy_quant");
  const bytes = markerBytes(object);
  return {
    kind: "write",
    tensor: layer.markerName ?? layer.weightName ?? name,
    info: { name, dtype: "U8", shape: [bytes.length] },
    bytes,
    place: layer.layer,
    detail,
  };
}

/**
 * Returns the operation that makes the metadata list `layers`; none if it does already. Other members
 * of the value stay. If nothing is left to list, the key goes.
 */
export function writeListed(
  source: ModelSource,
  layers: ReadonlyMap<string, unknown>,
  detail: string,
): Operation[] {
  const key = QUANTIZATION_METADATA_KEY;
  const old = source.metadata !== null && Object.hasOwn(source.metadata, key)
    ? source.metadata[key]!
    : null;
  if (layers.size === 0) {
    if (old === null) return [];
    return [{ kind: "metadata", key, value: null, place: "", detail: `${key}: removed` }];
  }
  const members = old === null ? { format_version: "1.0" } : parseJsonStrict(old) as LayerObject;
  const value = { ...members, layers: Object.fromEntries(layers) };
  if (old !== null && JSON.stringify(members) === JSON.stringify(value)) return [];
  const text = JSON.stringify(value);
  return [{ kind: "metadata", key, value: text, place: "", detail: `${key}: ${detail}` }];
}

/** Whether two objects say the same, whatever the order of their keys. */
export function sameObject(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => sameObject(item, b[index]));
  }
  if (!isJsonObject(a) || !isJsonObject(b)) return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameObject(a[key], b[key]));
}
