/**
 * What is already quantized in a model, and how, in every spelling that is in use. Pure, but for the
 * bytes of `comfy_quant` markers, which the caller reads.
 *
 * A layer `L` is known by, the first that applies:
 * 1. the header metadata `_quantization_metadata`, which the ComfyUI loader expands into markers and
 *    prefers to them;
 * 2. a tensor `L.comfy_quant`, U8 `[n]`, the bytes of a JSON object;
 * 3. the old spelling: a one-byte `L.weight` with `L.scale_weight` (files name themselves so with a
 *    tensor `scaled_fp8`);
 * 4. a one-byte 2-D `L.weight` with `L.weight_scale` and nothing that says what it is.
 */

import type { DType } from "../core/dtype.ts";
import { isJsonObject, JsonError, parseJsonStrict } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";

/** The header metadata key that lists quantized layers. */
export const QUANTIZATION_METADATA_KEY = "_quantization_metadata";

/** The group size of a rotated layer whose marker names none. */
export const DEFAULT_CONVROT_GROUP_SIZE = 256;

/** Markers have some 30 to 200 bytes; a longer tensor of that name is none. */
const MAX_MARKER_BYTES = 65_536;

const ONE_BYTE_DTYPES: readonly DType[] = ["I8", "F8_E4M3", "F8_E5M2"];

/** One layer that says, or shows, that it is quantized. */
export interface QuantizedLayer {
  /** `L`: the tensor names without their last part. */
  readonly layer: string;
  /** `L.weight`; null where a marker is there and its weight is not. */
  readonly weightName: string | null;
  /** `L.comfy_quant`; null where there is no such tensor. */
  readonly markerName: string | null;
  /** The object that says how it is quantized; null where there is none or it is malformed. */
  readonly marker: Readonly<Record<string, unknown>> | null;
  /** `marker.format`, where it is a string. */
  readonly format: string | null;
  /** `L.weight_scale` or `L.scale_weight`; null where there is neither. */
  readonly scaleName: string | null;
  readonly scaleShape: readonly number[] | null;
  /** Size of the Hadamard groups; null where the codes are not rotated. */
  readonly convrotGroupSize: number | null;
  /** Where the marker, or without one the suspicion, is from. */
  readonly origin: "comfy_quant" | "metadata" | "scale_weight" | "bare";
  /** What is wrong with the marker, as a sentence; null where nothing is. */
  readonly problem: string | null;
}

/** Whether a model is quantized, and what was found. */
export interface QuantizedState {
  readonly quantized: boolean;
  /** `112 int8_tensorwise layers`; `no quantized layers`. */
  readonly found: string;
  readonly layers: readonly QuantizedLayer[];
}

/** What `_quantization_metadata` says. */
export interface QuantizationMetadata {
  /** Layer name -> its object, the same as in a marker. */
  readonly layers: ReadonlyMap<string, unknown>;
  /** Why it cannot be read at all, as a sentence; null where it can, or is not there. */
  readonly problem: string | null;
}

/** Reads the bytes of one tensor of the model. */
export type ReadBytes = (tensor: SourceTensor) => Uint8Array;

/**
 * Returns the quantized layers of a model, in the order of their weights, then those without one. A
 * malformed marker becomes the `problem` of its layer.
 *
 * @param readBytes called for `comfy_quant` tensors only.
 * @throws what `readBytes` throws.
 */
export function findQuantizedLayers(source: ModelSource, readBytes: ReadBytes): QuantizedLayer[] {
  const byName = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  const listed = readQuantizationMetadata(source.metadata).layers;
  const layers = new Map<string, QuantizedLayer>();
  const add = (layer: string): void => {
    if (layers.has(layer)) return;
    const found = describeLayer(layer, { byName, listed, readBytes });
    if (found !== null) layers.set(layer, found);
  };
  for (const { name } of source.tensors) {
    if (name.endsWith(".weight")) add(name.slice(0, -".weight".length));
  }
  for (const { name } of source.tensors) {
    if (name.endsWith(".comfy_quant")) add(name.slice(0, -".comfy_quant".length));
  }
  for (const layer of listed.keys()) add(layer);
  return [...layers.values()];
}

/**
 * Returns whether a model holds quantized weights, with a sentence on what was found. Markers without
 * a weight do not count.
 *
 * @param readBytes as for {@link findQuantizedLayers}.
 */
export function isAlreadyQuantized(source: ModelSource, readBytes: ReadBytes): QuantizedState {
  const layers = findQuantizedLayers(source, readBytes);
  const dtypes = new Map(source.tensors.map(({ name, dtype }) => [name, dtype]));
  const kinds = new Map<string, { count: number; before: string; after: string }>();
  for (const layer of layers) {
    if (layer.weightName === null) continue;
    const [before, after] = kindOf(layer, dtypes.get(layer.weightName)!);
    const kind = kinds.get(before + after) ?? { count: 0, before, after };
    kind.count++;
    kinds.set(before + after, kind);
  }
  const found = [...kinds.values()].sort((a, b) => b.count - a.count)
    .map(({ count, before, after }) => `${count} ${before} layer${count === 1 ? "" : "s"}${after}`);
  return {
    quantized: found.length > 0,
    found: found.join(", ") || "no quantized layers",
    layers,
  };
}

/** Returns what the header metadata says of quantized layers; nothing where the key is not there. */
export function readQuantizationMetadata(metadata: ModelSource["metadata"]): QuantizationMetadata {
  const none = new Map<string, unknown>();
  if (metadata === null || !Object.hasOwn(metadata, QUANTIZATION_METADATA_KEY)) {
    return { layers: none, problem: null };
  }
  const what = `the metadata ${JSON.stringify(QUANTIZATION_METADATA_KEY)}`;
  const parsed = parseObject(metadata[QUANTIZATION_METADATA_KEY]!);
  if (typeof parsed === "string") return { layers: none, problem: `${what} ${parsed}` };
  if (!isJsonObject(parsed.layers)) {
    return { layers: none, problem: `${what} has no object "layers"` };
  }
  return { layers: new Map(Object.entries(parsed.layers)), problem: null };
}

interface LayerContext {
  readonly byName: ReadonlyMap<string, SourceTensor>;
  readonly listed: ReadonlyMap<string, unknown>;
  readonly readBytes: ReadBytes;
}

function describeLayer(layer: string, context: LayerContext): QuantizedLayer | null {
  const { byName, listed, readBytes } = context;
  const weight = byName.get(`${layer}.weight`);
  const markerTensor = byName.get(`${layer}.comfy_quant`);
  const newScale = byName.get(`${layer}.weight_scale`);
  const oldScale = byName.get(`${layer}.scale_weight`);
  const scale = newScale ?? oldScale;
  const place = {
    layer,
    weightName: weight?.name ?? null,
    markerName: markerTensor?.name ?? null,
    scaleName: scale?.name ?? null,
    scaleShape: scale?.shape ?? null,
  };
  if (listed.has(layer)) {
    const object = listed.get(layer);
    const marker = isJsonObject(object) ? object : "in the header metadata is not an object";
    return { ...place, origin: "metadata", ...readMarker(marker, place) };
  }
  if (markerTensor !== undefined) {
    const marker = parseMarker(markerTensor, readBytes);
    return { ...place, origin: "comfy_quant", ...readMarker(marker, place) };
  }
  if (weight === undefined || !ONE_BYTE_DTYPES.includes(weight.dtype)) return null;
  const bare = newScale !== undefined && weight.shape.length === 2;
  if (oldScale === undefined && !bare) return null;
  return {
    ...place,
    marker: null,
    format: null,
    convrotGroupSize: null,
    origin: oldScale !== undefined ? "scale_weight" : "bare",
    problem: null,
  };
}

/** Returns the object of a `comfy_quant` tensor, or what is wrong with it. */
export function parseMarker(
  tensor: SourceTensor,
  readBytes: ReadBytes,
): Record<string, unknown> | string {
  if (tensor.dtype !== "U8" || tensor.shape.length !== 1) {
    return `is ${tensor.dtype} [${tensor.shape.join(", ")}], not U8 with one dimension`;
  }
  if (tensor.byteLength > MAX_MARKER_BYTES) return `has ${tensor.byteLength} bytes, no JSON marker`;
  const bytes = readBytes(tensor);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return "is not UTF-8";
    throw error;
  }
  return parseObject(text);
}

/** Reads the fields of a marker that say how its weight is stored; a string is what is wrong with it. */
export function readMarker(
  marker: Record<string, unknown> | string,
  { weightName, layer }: { weightName: string | null; layer: string },
): Pick<QuantizedLayer, "marker" | "format" | "convrotGroupSize" | "problem"> {
  if (typeof marker === "string") {
    return {
      marker: null,
      format: null,
      convrotGroupSize: null,
      problem: `the marker of ${JSON.stringify(layer)} ${marker}`,
    };
  }
  const { format, convrot, convrot_groupsize: groupSize = DEFAULT_CONVROT_GROUP_SIZE } = marker;
  const faults: string[] = [];
  if (weightName === null) faults.push("belongs to no weight");
  if (format === undefined) faults.push('has no "format"');
  else if (typeof format !== "string") faults.push('has a "format" that is not a string');
  if (convrot !== undefined && typeof convrot !== "boolean") {
    faults.push('has a "convrot" that is neither true nor false');
  }
  const rotated = convrot === true;
  const validSize = isPowerOf4(groupSize);
  if (rotated && !validSize) {
    faults.push(`has a "convrot_groupsize" that is no power of 4: ${JSON.stringify(groupSize)}`);
  }
  return {
    marker,
    format: typeof format === "string" ? format : null,
    convrotGroupSize: rotated && validSize ? groupSize : null,
    problem: faults.length === 0
      ? null
      : `the marker of ${JSON.stringify(layer)} ${faults.join(", ")}`,
  };
}

/** Returns the JSON object that `text` spells, or what is wrong with it. */
function parseObject(text: string): Record<string, unknown> | string {
  let value: unknown;
  try {
    value = parseJsonStrict(text);
  } catch (error) {
    if (error instanceof JsonError) return `is not valid JSON: ${error.message}`;
    throw error;
  }
  return isJsonObject(value) ? value : "is not a JSON object";
}

function isPowerOf4(value: unknown): value is number {
  if (typeof value !== "number" || !(value >= 1 && value < 2 ** 31)) return false;
  return Number.isInteger(value) && (value & (value - 1)) === 0 && (value & 0x55555555) !== 0;
}

/** Returns the words before and after "layers" for layers of one kind. */
function kindOf(layer: QuantizedLayer, dtype: DType): [string, string] {
  switch (layer.origin) {
    case "scale_weight":
      return [dtype, " with scale_weight"];
    case "bare":
      return [dtype, " with weight_scale"];
    case "metadata":
    case "comfy_quant": {
      const { format, convrotGroupSize } = layer;
      if (format === null) return [dtype, " with a malformed marker"];
      // A stranger's word: quoted where it is more than a word.
      const word = /^[\w.-]{1,60}$/.test(format) ? format : JSON.stringify(format);
      return [word, convrotGroupSize === null ? "" : ` (convrot ${convrotGroupSize})`];
    }
  }
}
