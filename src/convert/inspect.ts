/** What is in a model, from its header and the bytes of its markers: the data behind `inspect`. */

import type { SourceTensor } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import { explain } from "../presets/explain.ts";
import type { Detection } from "../presets/preset.ts";
import { nameOfInput } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { findQuantizedLayers, type ReadBytes } from "../formats/quant_layers.ts";
import { countFormats } from "../formats/quantized_formats.ts";

/** What is in a model. */
export interface Inspection {
  /** What the user named. */
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
  /** What is wrong with markers, as sentences. */
  readonly markerProblems: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly detection: Detection;
  /** The detection in words. */
  readonly explanation: string;
  /** The tensors with the most bytes, largest first. */
  readonly largest: readonly SourceTensor[];
}

/** As many tensors as a person wants to see. */
const LARGEST_COUNT = 5;

/** Endings of tensors that say how others are stored. */
const PART_NAMES =
  /(^|\.)(comfy_quant|weight_scale|weight_scale_2|scale_weight|scale_input|input_scale|scaled_fp8)$/;

/**
 * Returns what is in `source`.
 *
 * @param readBytes called for `comfy_quant` tensors only.
 */
export function inspectModel(source: ModelSource, readBytes: ReadBytes): Inspection {
  const { tensors } = source;
  const layers = findQuantizedLayers(source, readBytes);
  const detection = detect(tensors);
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
    parameters: tensors.filter(({ name }) => !PART_NAMES.test(name))
      .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0),
    dtypes: Object.fromEntries(byBytes.map(([dtype, { count }]) => [dtype, count])),
    dtypeBytes: Object.fromEntries(byBytes.map(([dtype, { bytes }]) => [dtype, bytes])),
    quantized: countFormats(source, layers),
    convrotGroups: countBy(layers.flatMap(({ convrotGroupSize }) => convrotGroupSize ?? [])),
    markerProblems: layers.flatMap(({ problem }) => problem ?? []),
    metadata: source.metadata ?? {},
    detection,
    explanation: explain(detection),
    largest: [...tensors].sort((a, b) => b.byteLength - a.byteLength).slice(0, LARGEST_COUNT),
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

function countBy(values: readonly number[]): Record<string, number> {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return Object.fromEntries(counts);
}
