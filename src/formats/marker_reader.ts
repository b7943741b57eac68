/**
 * The statements of a file about its quantized layers: the `comfy_quant` tensors and the header metadata
 * `_quantization_metadata`. Everything that reads markers reads them by this. Keys may stand at the top or
 * under `params`; names in the metadata may have the model's prefix or not, as the loader expands them once
 * before and once after it strips it; the metadata wins.
 */

import { isJsonObject, JsonError, parseJsonStrict } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { MODEL_PREFIXES } from "../presets/names.ts";
import type { ModelSource } from "../safetensors/model_source.ts";

/** The header metadata key that lists quantized layers. */
export const QUANTIZATION_METADATA_KEY = "_quantization_metadata";

/** The group size of a rotated layer whose marker names none. */
const DEFAULT_CONVROT_GROUP_SIZE = 256;

/** Markers have about 30 to 200 bytes; a longer tensor of that name is none, and is not read. */
export const MAX_MARKER_BYTES = 65_536;

/** Reads the bytes of one tensor of the model. */
export type ReadBytes = (tensor: SourceTensor) => Uint8Array;

/** The content of `_quantization_metadata`. */
export interface QuantizationMetadata {
  /** Layer name -> its object, the same as in a marker. */
  readonly layers: ReadonlyMap<string, unknown>;
  /** Why it cannot be read at all, as a sentence; null if it can, or is not there. */
  readonly problem: string | null;
}

/** Returns what the header metadata says of quantized layers; nothing if the key is not there. */
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

/** The entries of the metadata by the layer of the file that they mean. */
export interface ListedLayers {
  readonly byLayer: ReadonlyMap<string, { readonly listedAs: string; readonly object: unknown }>;
  /** Entries that mean no layer of the file. */
  readonly unknown: readonly string[];
  /** Layers that two entries mean which differ. */
  readonly ambiguous: ReadonlyMap<string, readonly string[]>;
}

/** Returns which layer each entry of the metadata means. */
export function resolveListed(
  listed: ReadonlyMap<string, unknown>,
  isLayer: (name: string) => boolean,
): ListedLayers {
  const byLayer = new Map<string, { listedAs: string; object: unknown }>();
  const unknown: string[] = [], ambiguous = new Map<string, string[]>();
  for (const [listedAs, object] of listed) {
    const layer = spellings(listedAs).find(isLayer);
    const before = layer === undefined ? undefined : byLayer.get(layer);
    if (layer === undefined) unknown.push(listedAs);
    else if (before === undefined) byLayer.set(layer, { listedAs, object });
    else if (JSON.stringify(before.object) !== JSON.stringify(object)) {
      ambiguous.set(layer, [before.listedAs, listedAs]);
    }
  }
  return { byLayer, unknown, ambiguous };
}

function spellings(name: string): string[] {
  return [
    name,
    ...MODEL_PREFIXES.map((prefix) => prefix + name),
    ...MODEL_PREFIXES.filter((prefix) => name.startsWith(prefix)).map((p) => name.slice(p.length)),
  ];
}

/** The bytes of a marker tensor, read. */
export interface ParsedMarker {
  /** The object; a string says what is wrong with it; null: nothing but NUL bytes. */
  readonly object: Record<string, unknown> | string | null;
  /** NUL bytes at the end, which are dropped: the loader cannot read them. */
  readonly nulBytes: number;
}

/** Reads a `comfy_quant` tensor. */
export function parseMarker(tensor: SourceTensor, readBytes: ReadBytes): ParsedMarker {
  if (tensor.dtype !== "U8" || tensor.shape.length !== 1) {
    const object = `is ${tensor.dtype} [${tensor.shape.join(", ")}], not U8 with one dimension`;
    return { object, nulBytes: 0 };
  }
  if (tensor.byteLength > MAX_MARKER_BYTES) {
    return { object: `has ${tensor.byteLength} bytes, no JSON marker`, nulBytes: 0 };
  }
  const bytes = readBytes(tensor);
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0) length--;
  const nulBytes = bytes.length - length;
  if (length === 0 && nulBytes > 0) return { object: null, nulBytes };
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
    return { object: parseObject(text), nulBytes };
  } catch (error) {
    if (error instanceof TypeError) return { object: "is not UTF-8", nulBytes };
    throw error;
  }
}

/** The fields of a marker that say how a weight is stored. */
export interface MarkerFields {
  /** The object with the members of `params` beside its own; null if it cannot be read. */
  readonly marker: Readonly<Record<string, unknown>> | null;
  readonly format: string | null;
  readonly convrotGroupSize: number | null;
  /** The fault, as a sentence; null: nothing. */
  readonly problem: string | null;
  /** Id of the rule that is broken, as `verify` names it. */
  readonly rule: "marker-malformed" | "marker-params" | "marker-fields" | null;
}

/** Reads the object of a marker; a string is what is wrong with it. */
export function markerFields(
  object: Record<string, unknown> | string,
  { layer, hasWeight }: { layer: string; hasWeight: boolean },
): MarkerFields {
  const said = (faults: readonly string[]) =>
    faults.length === 0 ? null : `the marker of ${JSON.stringify(layer)} ${faults.join(", ")}`;
  const none = { marker: null, format: null, convrotGroupSize: null };
  if (typeof object === "string") {
    return { ...none, problem: said([object]), rule: "marker-malformed" };
  }
  const marker = withoutParams(object);
  if (typeof marker === "string") {
    return { ...none, problem: said([marker]), rule: "marker-params" };
  }
  const { format, convrot, convrot_groupsize: groupSize = DEFAULT_CONVROT_GROUP_SIZE } = marker;
  const faults: string[] = [];
  if (!hasWeight) faults.push("belongs to no weight");
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
    problem: said(faults),
    rule: faults.length === 0 ? null : "marker-fields",
  };
}

/** Returns the object with the members of `params` beside its own, or why they contradict one another. */
function withoutParams(object: Record<string, unknown>): Record<string, unknown> | string {
  if (!isJsonObject(object["params"])) return object;
  const { params, ...own } = object;
  for (const [key, value] of Object.entries(params as Record<string, unknown>)) {
    if (Object.hasOwn(own, key) && JSON.stringify(own[key]) !== JSON.stringify(value)) {
      return `and the "params" in it differ in ${JSON.stringify(key)}`;
    }
  }
  return { ...own, ...params as Record<string, unknown> };
}

/** Whether a tensor announces the FP8 layout of 2024, with or without the model's prefix. */
export function isScaledFp8(name: string): boolean {
  return name === "scaled_fp8" || name.endsWith(".scaled_fp8");
}

/** Whether `value` is a size of rotation groups: regular Hadamard matrices exist for powers of 4. */
export function isPowerOf4(value: unknown): value is number {
  if (typeof value !== "number" || !(value >= 1 && value < 2 ** 31)) return false;
  return Number.isInteger(value) && (value & (value - 1)) === 0 && (value & 0x55555555) !== 0;
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
