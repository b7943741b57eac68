/**
 * The quantized layers of a model. Every layer whose tensors or markers say that it is
 * quantized is put before all formats of the registry, and exactly one must claim it: what none claims, and
 * what two claim, is a layer with a problem, never a plain weight.
 */

import { isJsonObject } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { Format, LayerTensors, Recognised } from "./format.ts";
import { type GatheredLayer, gatherLayers, isActivationPart, partName } from "./layer_tensors.ts";
import { shown } from "./layer_shapes.ts";
import {
  type MarkerFields,
  markerFields,
  parseMarker,
  type ReadBytes,
  readQuantizationMetadata,
  resolveListed,
} from "./marker_reader.ts";
import { FORMATS } from "./registry.ts";

export type { ReadBytes };

/** One layer that says, or shows, that it is quantized. */
export interface QuantizedLayer {
  /** `L`: the tensor names without their last part. */
  readonly layer: string;
  /** The tensor with its codes, `L.weight` as a rule; null: a marker is there and its weight is not. */
  readonly weightName: string | null;
  /** `L.comfy_quant`; null if there is no such tensor. */
  readonly markerName: string | null;
  /** How `_quantization_metadata` spells the layer; null if it does not list it. */
  readonly listedAs: string | null;
  /** The object that says how it is quantized, keys of `params` among its own; null: none, or malformed. */
  readonly marker: Readonly<Record<string, unknown>> | null;
  /** The same as it is written. */
  readonly rawMarker: Readonly<Record<string, unknown>> | null;
  /** `marker.format`, if it is a string. */
  readonly format: string | null;
  /** The scales of its weight; null if there are none. */
  readonly scaleName: string | null;
  readonly scaleShape: readonly number[] | null;
  /** Size of the Hadamard groups; null: the codes are not rotated. */
  readonly convrotGroupSize: number | null;
  /** Place of the marker; `unmarked`: its tensors alone show that it is quantized. */
  readonly origin: "comfy_quant" | "metadata" | "unmarked";
  /** Fault of marker or layer, as a sentence; null: nothing. */
  readonly problem: string | null;
  /** Id of the rule behind the problem, as `verify` names it. */
  readonly rule: string | null;
  /** The format that claims it; null: none does, or more than one. */
  readonly kind: Format | null;
  /** Parts that that format recognised. */
  readonly found: Recognised | null;
  readonly tensors: LayerTensors;
  /** Names of the tensors that mean nothing without the codes: marker, scales and the like. */
  readonly partNames: readonly string[];
}

/** Everything that a model's markers and tensors say of quantized layers. */
export interface QuantizedModel {
  /** In the order of their tensors, those without a weight last. */
  readonly layers: readonly QuantizedLayer[];
  /** Markers of nothing but NUL bytes beside plain weights: they say nothing and go. */
  readonly emptyMarkers: readonly string[];
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
}

/** Facts that layers are checked against. */
export interface ReadOptions {
  /** All ways to store a weight. */
  readonly formats?: readonly Format[];
  /** Shapes of weights in another file of the same model, by name, for formats that do not say them. */
  readonly shapes?: ReadonlyMap<string, readonly number[]> | undefined;
}

/**
 * Returns the quantized layers of a model, in the order of their weights, then those without one. The
 * fault of a layer becomes its `problem`.
 *
 * @param readBytes called for `comfy_quant` tensors, and for companions of one number.
 * @throws what `readBytes` throws.
 */
export function findQuantizedLayers(
  source: ModelSource,
  readBytes: ReadBytes,
  options: ReadOptions = {},
): readonly QuantizedLayer[] {
  return readQuantizedModel(source, readBytes, options).layers;
}

/** As {@link findQuantizedLayers}, with what is to be said of the markers. */
export function readQuantizedModel(
  source: ModelSource,
  readBytes: ReadBytes,
  { formats = FORMATS, shapes }: ReadOptions = {},
): QuantizedModel {
  const gathered = gatherLayers(source.tensors);
  const known = new Map(gathered.map((layer) => [layer.layer, layer]));
  const entries = readQuantizationMetadata(source.metadata).layers;
  const byName = entries.size === 0
    ? new Map<string, SourceTensor>()
    : new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
  const listed = resolveListed(
    entries,
    (name) => known.has(name) || byName.has(`${name}.weight`) || byName.has(name),
  );
  for (const name of listed.byLayer.keys()) {
    if (!known.has(name)) known.set(name, plainLayer(name, byName));
  }
  for (const name of listed.unknown) known.set(name, emptyLayer(name));
  const notes: string[] = [], emptyMarkers: string[] = [], layers: QuantizedLayer[] = [];
  for (const layer of known.values()) {
    const tensor = layer.markerTensor;
    const entry = listed.byLayer.get(layer.layer);
    const parsed = tensor === null ? null : parseMarker(tensor, readBytes);
    if (parsed !== null && parsed.nulBytes > 0) notes.push(nulNote(tensor!.name, parsed));
    if (parsed?.object === null && entry === undefined && !layer.isQuantized) {
      emptyMarkers.push(tensor!.name);
      continue;
    }
    const isUnknown = listed.unknown.includes(layer.layer);
    const object = entry !== undefined || isUnknown
      ? listedObject(entry?.object ?? entries.get(layer.layer))
      : parsed?.object ?? null;
    const described = describe(layer, { object, formats, shapes, readBytes });
    layers.push({
      ...described,
      listedAs: entry?.listedAs ?? (isUnknown ? layer.layer : null),
      origin: entry !== undefined || isUnknown
        ? "metadata"
        : object === null
        ? "unmarked"
        : "comfy_quant",
      ...ambiguityOf(layer.layer, listed.ambiguous, described),
    });
  }
  return {
    layers: [
      ...layers.filter(({ weightName }) => weightName !== null),
      ...layers.filter(({ weightName }) => weightName === null),
    ],
    emptyMarkers,
    notes,
  };
}

function nulNote(marker: string, { nulBytes, object }: ReturnType<typeof parseMarker>): string {
  const bytes = nulBytes === 1 ? "1 NUL byte" : `${nulBytes} NUL bytes`;
  return object === null
    ? `the marker ${marker} is ${bytes} and nothing else: it says nothing and is dropped`
    : `the marker ${marker} ends in ${bytes}, which are dropped`;
}

function listedObject(object: unknown): Record<string, unknown> | string {
  return isJsonObject(object) ? object : "in the header metadata is not an object";
}

function ambiguityOf(
  layer: string,
  ambiguous: ReadonlyMap<string, readonly string[]>,
  { problem }: { problem: string | null },
): { problem: string; rule: string } | Record<never, never> {
  const names = ambiguous.get(layer);
  if (names === undefined || problem !== null) return {};
  const problem2 = `the header metadata lists it as ${names.join(" and ")}, and the two differ`;
  return { problem: problem2, rule: "metadata-disagrees" };
}

/** A listed layer whose tensors do not show that it is quantized. */
function plainLayer(layer: string, byName: ReadonlyMap<string, SourceTensor>): GatheredLayer {
  const weight = byName.get(partName(layer, "weight")) ?? byName.get(layer) ?? null;
  return { ...emptyLayer(layer), weight };
}

function emptyLayer(layer: string): GatheredLayer {
  return {
    layer,
    weight: null,
    parts: new Map(),
    bias: null,
    markerTensor: null,
    isQuantized: false,
    isHalf: false,
  };
}

/** Puts a layer before all formats. */
function describe(
  gathered: GatheredLayer,
  { object, formats, shapes, readBytes }: {
    object: Record<string, unknown> | string | null;
    formats: readonly Format[];
    shapes: ReadonlyMap<string, readonly number[]> | undefined;
    readBytes: ReadBytes;
  },
): Omit<QuantizedLayer, "origin" | "listedAs"> {
  const { layer, weight, parts, bias, markerTensor } = gathered;
  const hasWeight = weight !== null || gathered.isQuantized;
  const fields: MarkerFields = object === null
    ? { marker: null, format: null, convrotGroupSize: null, problem: null, rule: null }
    : markerFields(object, { layer, hasWeight });
  const tensors: LayerTensors = {
    layer,
    weight,
    parts,
    bias,
    marker: fields.marker,
    format: fields.format,
    convrotGroupSize: fields.convrotGroupSize,
    knownShape: weight === null ? null : shapes?.get(weight.name) ?? null,
    bytesOf: readBytes,
    integer: (part) => integerOf(parts.get(part), readBytes),
  };
  const isMarked = object !== null;
  // A marker that cannot be read leaves open what the layer is.
  const claims = !hasWeight || (isMarked && fields.format === null)
    ? []
    : formats.flatMap((kind) => {
      const found = kind.recognise(tensors);
      return found === null ? [] : [{ kind, found }];
    });
  const claim = claims.length === 1 ? claims[0]! : null;
  const codes = claim?.found.codes ?? weight ?? codesAmong(parts);
  const scale = claim?.found.scale ?? anyScale(parts);
  const partNames = [
    ...(markerTensor === null ? [] : [markerTensor.name]),
    ...[...parts.values()].map(({ name }) => name).filter((name) => name !== codes?.name),
  ];
  return {
    layer,
    weightName: hasWeight ? codes?.name ?? null : null,
    markerName: markerTensor?.name ?? null,
    marker: fields.marker,
    rawMarker: typeof object === "string" ? null : object,
    format: fields.format,
    scaleName: scale?.name ?? null,
    scaleShape: scale?.shape ?? null,
    convrotGroupSize: claim?.found.convrotGroupSize ?? fields.convrotGroupSize,
    kind: claim?.kind ?? null,
    found: claim?.found ?? null,
    tensors,
    partNames,
    ...gathered.isHalf && !isMarked
      ? halfFault(tensors)
      : faultOf(fields, { claims, tensors, codes, isMarked }),
  };
}

/** Returns a layer whose marker names no format as its tensors and the rotation in its marker show it. */
export function claimByTensors(
  layer: QuantizedLayer,
  formats: readonly Format[] = FORMATS,
): QuantizedLayer {
  const { marker, convrotGroupSize } = layer;
  if (layer.problem !== null && (marker === null || Object.hasOwn(marker, "format"))) return layer;
  if (marker?.["convrot"] !== undefined && typeof marker["convrot"] !== "boolean") return layer;
  if (marker?.["convrot"] === true && convrotGroupSize === null) return layer;
  const tensors: LayerTensors = { ...layer.tensors, marker: null, format: null };
  const claims = formats.flatMap((kind) => {
    const found = kind.recognise(tensors);
    return found === null ? [] : [{ kind, found }];
  });
  const [claim] = claims;
  if (claim === undefined || claims.length > 1) return layer;
  return { ...layer, ...claim, tensors, problem: null, rule: null };
}

/** Scales are there, and what they scale is not. */
function halfFault({ layer, parts }: LayerTensors): { problem: string; rule: string } {
  const beside = [...parts.keys()].join(", ");
  return { problem: `${JSON.stringify(layer)} has ${beside} and no weight`, rule: "half-layer" };
}

/** Fault of the layer, apart from the values that its format decodes. */
function faultOf(
  fields: MarkerFields,
  { claims, tensors, codes, isMarked }: {
    claims: readonly { readonly kind: Format }[];
    tensors: LayerTensors;
    codes: SourceTensor | null;
    isMarked: boolean;
  },
): { problem: string | null; rule: string | null } {
  if (fields.problem !== null) return fields;
  const layer = JSON.stringify(tensors.layer);
  if (claims.length > 1) {
    const titles = claims.map(({ kind }) => kind.title).join(" and ");
    return {
      problem: `the tensors of ${layer} are those of two formats: ${titles}`,
      rule: "two-formats",
    };
  }
  const [claim] = claims;
  if (claim !== undefined) {
    const { parts } = claim.kind;
    const strange = parts === undefined
      ? []
      : [...tensors.parts.keys()].filter((part) =>
        !parts.includes(part) && !isActivationPart(part)
      );
    if (strange.length === 0) return { problem: null, rule: null };
    return {
      problem: `${layer} has ${strange.join(", ")}, which ${claim.kind.title} does not have`,
      rule: "strange-companion",
    };
  }
  if (isMarked || codes === null) return { problem: null, rule: null };
  const beside = [...tensors.parts].map(([part, tensor]) => `${part} ${shown(tensor)}`);
  const what = beside.length === 0
    ? "and nothing says what its codes mean"
    : `with ${beside.join(", ")}, a layout that is not known here`;
  return { problem: `${layer} is ${shown(codes)} ${what}`, rule: "unknown-layout" };
}

function integerOf(tensor: SourceTensor | undefined, readBytes: ReadBytes): number | null {
  if (tensor === undefined) return null;
  const view = (bytes: Uint8Array) =>
    new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (tensor.dtype === "I32" && tensor.byteLength === 4) {
    return view(readBytes(tensor)).getInt32(0, true);
  }
  if (tensor.dtype === "I64" && tensor.byteLength === 8) {
    return Number(view(readBytes(tensor)).getBigInt64(0, true));
  }
  return null;
}

function codesAmong(parts: ReadonlyMap<string, SourceTensor>): SourceTensor | null {
  return [...parts.values()].find(({ dtype, shape }) =>
    shape.length >= 2 && (dtype === "U8" || dtype === "I8" || dtype === "I32" || dtype === "U32")
  ) ?? null;
}

function anyScale(parts: ReadonlyMap<string, SourceTensor>): SourceTensor | undefined {
  return parts.get("weight_scale") ?? parts.get("scale_weight") ??
    [...parts].find(([part]) => /scale/i.test(part) && !isActivationPart(part))?.[1];
}
