/**
 * How the values of a stored tensor are read, whatever its file says: plain floats, or what the format of its
 * layer decodes. Convert (`--requantize`), `dequantize`, `migrate` and `verify` read weights by this.
 */

import { type FloatDType, isFloatDType } from "../core/dtype.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";
import { isRefusal, type Refusal } from "./format.ts";
import { rowsOf } from "./layer_shapes.ts";
import { type MatrixSource, withFileOffset } from "./matrix_source.ts";
import type { ReadBytes } from "./marker_reader.ts";
import { findQuantizedLayers, type QuantizedLayer, type QuantizedModel } from "./quant_layers.ts";

/** How {@link storedMatrix} numbers files. */
export interface StoredMatrixOptions {
  /** Number that the model's first file has in the run: the count of files before it. Default: 0. */
  readonly fileOffset?: number;
}

/**
 * Returns how the values of `tensor` are read in original space.
 *
 * A quantized tensor `[..., N, K]` is a matrix of K columns; of a float tensor the 2-D ones are read as
 * they are, 3-D ones by row, others as one row of all elements.
 *
 * @param layer what is known of the layer that `tensor` holds the codes of; null for any other tensor.
 * @throws FormatError if marker, companions and codes do not fit together; UnsupportedError if the
 *   values cannot be restored from what is stored.
 */
export function storedMatrix(
  model: ModelSource,
  tensor: SourceTensor,
  layer: QuantizedLayer | null,
  { fileOffset = 0 }: StoredMatrixOptions = {},
): MatrixSource {
  if (layer === null) return withFileOffset(plainMatrix(model, tensor), fileOffset);
  const decoded = decodeLayer(layer);
  if (isRefusal(decoded)) throw refusalError(model, layer, decoded);
  return withFileOffset(decoded, fileOffset);
}

/** Returns how the values of a layer with a weight are read, or why they cannot be. */
export function decodeLayer(layer: QuantizedLayer): MatrixSource | Refusal {
  const { kind, found, tensors, problem, format, rule } = layer;
  const tensor = layer.weightName ?? layer.markerName ?? layer.layer;
  if (problem !== null) {
    const isBroken = rule !== "unknown-layout";
    return { tensor, why: problem, isBroken, ...(isBroken ? {} : { hint: START_FROM_ORIGINAL }) };
  }
  if (kind === null || found === null) {
    const why = `the format ${JSON.stringify(format)} is not known here`;
    return { tensor, why, isBroken: false, hint: START_FROM_ORIGINAL };
  }
  return kind.decode(tensors, found);
}

/** Throws the names of the layers that the metadata lists and the model does not have. */
export function refuseAbsent(model: ModelSource, layers: readonly QuantizedLayer[]): void {
  const absent = layers.filter(({ weightName, markerName, origin }) =>
    weightName === null && markerName === null && origin === "metadata"
  );
  if (absent.length > 0) {
    const names = absent.slice(0, LISTED).map(({ layer }) => JSON.stringify(layer)).join(", ");
    const more = absent.length > LISTED ? ` and ${absent.length - LISTED} more` : "";
    throw new FormatError(
      `its metadata "_quantization_metadata" lists layers that it does not have: ${names}${more}`,
      { path: model.path, hint: "`quantsmith edit --no-save-quant-metadata` removes the list" },
    );
  }
}

/**
 * Throws what is wrong with the first layer that cannot be decoded: half a layer, a marker that contradicts
 * its tensors, a layout of others. Nothing must be converted around such a layer.
 *
 * @param model what the layers were found in.
 */
export function refuseUndecodable(model: ModelSource, layers: readonly QuantizedLayer[]): void {
  refuseAbsent(model, layers);
  for (const layer of layers) {
    const decoded = decodeLayer(layer);
    if (isRefusal(decoded)) throw refusalError(model, layer, decoded);
  }
}

/**
 * Throws if a model has no quantized weight to work on: what is wrong with its first layer without a weight, or
 * that it has none, naming markers that say nothing.
 *
 * @param doing the command, for the message: `migrate`.
 */
export function refuseUnquantized(
  model: ModelSource,
  { layers, emptyMarkers }: Pick<QuantizedModel, "layers" | "emptyMarkers">,
  doing: string,
): void {
  if (layers.some(({ weightName }) => weightName !== null)) return;
  refuseUndecodable(model, layers);
  const names = emptyMarkers.slice(0, LISTED).map((name) => JSON.stringify(name)).join(", ");
  const more = emptyMarkers.length > LISTED ? ` and ${emptyMarkers.length - LISTED} more` : "";
  throw new UnsupportedError(
    `Cannot ${doing} ${JSON.stringify(model.path)}: it has no quantized layers` +
      (emptyMarkers.length === 0
        ? ""
        : `: ${names}${more} hold NUL bytes and nothing else; \`quantsmith migrate\` removes them`),
  );
}

/** How many layers a message names. */
const LISTED = 5;

function refusalError(
  model: ModelSource,
  layer: QuantizedLayer,
  { tensor, why, isBroken, hint }: Refusal,
): FormatError | UnsupportedError {
  if (isBroken) {
    return new FormatError(why, {
      path: model.path,
      tensor,
      hint: hint ?? "`quantsmith verify` lists what is wrong with the file",
    });
  }
  const kind = layer.kind === null ? "" : ` (${layer.kind.title})`;
  return new UnsupportedError(
    `Cannot restore tensor ${JSON.stringify(tensor)}${kind} of ${JSON.stringify(model.path)}: ` +
      why + (hint === undefined ? "" : `; ${hint}`),
  );
}

/** Name of the weight that a layer stands for; null if it has none. */
export function logicalName({ found, weightName }: QuantizedLayer): string | null {
  return found?.name ?? weightName;
}

/** Returns the layers with a weight by its name, that of the restored one. */
export function layersByWeight(
  layers: readonly QuantizedLayer[],
): ReadonlyMap<string, QuantizedLayer> {
  return new Map(layers.flatMap((layer) => {
    const name = logicalName(layer);
    return name === null ? [] : [[name, layer]];
  }));
}

/**
 * Returns the model with the names and shapes that its quantized weights stand for: what plans and comparisons
 * go by. Bytes and dtypes are those of the codes.
 */
export function logicalModel(model: ModelSource, layers: readonly QuantizedLayer[]): ModelSource {
  if (layers.length === 0) return model;
  const byCodes = new Map(layers.map((layer) => [layer.weightName, layer.found]));
  const tensors = model.tensors.map((tensor): SourceTensor => {
    const found = byCodes.get(tensor.name) ?? null;
    if (found === null) return tensor;
    const { name = tensor.name, shape = tensor.shape } = found;
    return { ...tensor, name, shape };
  });
  return { ...model, tensors };
}

/** Shapes of the weights of a model by name, for files of the same model that do not say theirs. */
export function shapesIn(
  model: ModelSource,
  readBytes: ReadBytes,
): ReadonlyMap<string, readonly number[]> {
  const layers = findQuantizedLayers(model, readBytes);
  const unknown = new Set(
    layers.filter((layer) => isRefusal(decodeLayer(layer))).map(({ weightName }) => weightName),
  );
  return new Map(
    logicalModel(model, layers).tensors.filter(({ name }) => !unknown.has(name))
      .map(({ name, shape }) => [name, shape]),
  );
}

function plainMatrix(model: ModelSource, tensor: SourceTensor): MatrixSource {
  const { name, file, offsetBytes, shape } = tensor;
  const size = rowsOf(shape);
  const dtype = floatDType(model, tensor);
  return { name, file, offsetBytes, dtype, ...size, scale: null, convrotGroupSize: null };
}

function floatDType(model: ModelSource, tensor: SourceTensor): FloatDType {
  if (isFloatDType(tensor.dtype)) return tensor.dtype;
  throw new UnsupportedError(
    `Cannot read the values of tensor ${JSON.stringify(tensor.name)} of ` +
      `${JSON.stringify(model.path)}: ${tensor.dtype} holds no floats, and it has no scale`,
  );
}

const INDEXES = new WeakMap<ModelSource, ReadonlyMap<string, SourceTensor>>();

/** Returns the tensors of a model by name; made once per model. */
export function tensorsByName(model: ModelSource): ReadonlyMap<string, SourceTensor> {
  const known = INDEXES.get(model);
  if (known !== undefined) return known;
  const index = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  INDEXES.set(model, index);
  return index;
}
