/** Contents of a model, from its header and the bytes of its markers: the data behind `inspect`. */

import type { SourceTensor, Tensors } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import { explain } from "../presets/explain.ts";
import type { Detection } from "../presets/preset.ts";
import { nameOfInput } from "../remote/input_path.ts";
import { TensorTable } from "../safetensors/tensor_table.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { isScaledFp8 } from "../formats/marker_reader.ts";
import { isRefusal } from "../formats/format.ts";
import { elementsOf } from "../formats/layer_shapes.ts";
import { countFormats } from "../formats/count_formats.ts";
import {
  type QuantizedLayer,
  type ReadBytes,
  readQuantizedModel,
} from "../formats/quant_layers.ts";
import { decodeLayer, logicalModel } from "../formats/stored_matrix.ts";

/** Contents of a model. */
export interface Inspection {
  /** The path as the user named it. */
  readonly path: string;
  readonly files: readonly string[];
  readonly fileBytes: number;
  /** Number of tensors. */
  readonly tensors: number;
  /** Elements of all tensors but markers and scales. */
  readonly parameters: number;
  /** Number of tensors per dtype, the dtype with the most bytes first. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Bytes per dtype, in the same order. */
  readonly dtypeBytes: Readonly<Record<string, number>>;
  /** Number of quantized layers per format. */
  readonly quantized: Readonly<Record<string, number>>;
  /** Number of rotated layers per group size. */
  readonly convrotGroups: Readonly<Record<string, number>>;
  /** Problems of markers and quantized layers, as sentences. */
  readonly markerProblems: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly detection: Detection;
  /** The detection in words. */
  readonly explanation: string;
  /** The tensors with the most bytes, largest first. */
  readonly largest: Tensors<SourceTensor>;
}

/** As many tensors as a person wants to see. */
const LARGEST_COUNT = 5;

/**
 * Returns what is in `source`.
 *
 * @param readBytes called for `comfy_quant` tensors only.
 */
export function inspectModel(source: ModelSource, readBytes: ReadBytes): Inspection {
  const { tensors } = source;
  const { layers, emptyMarkers, notes } = readQuantizedModel(source, readBytes);
  const parts = new Set([...emptyMarkers, ...layers.flatMap(({ partNames }) => partNames)]);
  const weights = chosen(
    logicalModel(source, layers).tensors,
    // To look for a text is to hash it, and there may be a million.
    ({ name }) => !(parts.size > 0 && parts.has(name)) && !isScaledFp8(name),
  );
  const detection = detect(weights);
  const dtypes = new Map<string, { count: number; bytes: number }>();
  for (const { dtype, byteLength } of tensors) {
    const { count, bytes } = dtypes.get(dtype) ?? { count: 0, bytes: 0 };
    dtypes.set(dtype, { count: count + 1, bytes: bytes + byteLength });
  }
  const byBytes = [...dtypes].sort(([, a], [, b]) => b.bytes - a.bytes);
  return {
    path: source.path,
    files: source.paths.map(nameOfInput),
    fileBytes: source.inputBytes,
    tensors: tensors.length,
    parameters: weights.reduce((sum, { shape }) => sum + elementsOf(shape), 0),
    dtypes: Object.fromEntries(byBytes.map(([dtype, { count }]) => [dtype, count])),
    dtypeBytes: Object.fromEntries(byBytes.map(([dtype, { bytes }]) => [dtype, bytes])),
    quantized: countFormats(layers),
    convrotGroups: countBy(layers.flatMap(({ convrotGroupSize }) => convrotGroupSize ?? [])),
    markerProblems: [...layers.flatMap((layer) => problemOf(layer) ?? []), ...notes],
    metadata: source.metadata ?? {},
    detection,
    explanation: explain(detection),
    largest: largestOf(tensors),
  };
}

/** Returns the stable JSON shape of `inspect --json`. */
export function inspectionJson(inspection: Inspection): Record<string, unknown> {
  const { detection } = inspection;
  return {
    path: inspection.path,
    files: inspection.files,
    file_bytes: inspection.fileBytes,
    tensors: inspection.tensors,
    parameters: inspection.parameters,
    dtypes: inspection.dtypes,
    dtype_bytes: inspection.dtypeBytes,
    quantized: inspection.quantized,
    convrot_groups: inspection.convrotGroups,
    marker_problems: inspection.markerProblems,
    metadata: inspection.metadata,
    family: detection.family,
    layout: detection.layout,
    prefix: detection.prefix,
    evidence: detection.evidence,
    largest: inspection.largest.map(({ name, dtype, shape, byteLength }) => ({
      name,
      dtype,
      shape,
      bytes: byteLength,
    })),
  };
}

/** As `filter`, without objects for what a table holds. */
function chosen(
  tensors: Tensors<SourceTensor>,
  isWanted: (tensor: SourceTensor) => boolean,
): Tensors<SourceTensor> {
  return tensors instanceof TensorTable ? tensors.choose(isWanted) : tensors.filter(isWanted);
}

/** Why the values of a layer cannot be restored; null if they can. */
function problemOf(layer: QuantizedLayer): string | null {
  if (layer.problem !== null || layer.weightName === null) return layer.problem;
  const decoded = decodeLayer(layer);
  return isRefusal(decoded) ? `${decoded.tensor}: ${decoded.why}` : null;
}

/** The tensors with the most bytes, largest first; of equal ones the first. */
function largestOf(tensors: Tensors<SourceTensor>): SourceTensor[] {
  const largest: SourceTensor[] = [];
  for (const tensor of tensors) {
    if (largest.length === LARGEST_COUNT && largest.at(-1)!.byteLength >= tensor.byteLength) {
      continue;
    }
    const place = largest.findIndex(({ byteLength }) => byteLength < tensor.byteLength);
    largest.splice(place < 0 ? largest.length : place, 0, tensor);
    if (largest.length > LARGEST_COUNT) largest.pop();
  }
  return largest;
}

function countBy(values: readonly number[]): Record<string, number> {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return Object.fromEntries(counts);
}
