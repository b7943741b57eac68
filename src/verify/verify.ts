/**
 * Says whether stock ComfyUI loads a file and computes with it what it means: every rule of its loader
 * on the header, every scale value by value, every byte read once.
 *
 * `loads` is false if any problem is an error: if loading fails, if the first use fails, and
 * if it loads and computes something else. A warning is for what works all the same.
 */

import { isFloatDType } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type ReadBytes, readQuantizationMetadata } from "../formats/marker_reader.ts";
import { countFormats } from "../formats/count_formats.ts";
import { type QuantizedLayer, readQuantizedModel } from "../formats/quant_layers.ts";
import { TensorReader } from "../safetensors/reader.ts";
import { tensorsByName } from "../formats/stored_matrix.ts";
import type { ScanTask } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { modelProblems } from "./verify_model_rules.ts";
import { layerProblems, type Problem, type RuleContext } from "../formats/verify_rules.ts";
import { scaleValueProblems } from "../formats/verify_values.ts";
import type { Progress, WorkerPool } from "../run/workers/worker_pool.ts";

export type { Problem };
import { nonFiniteOf } from "../run/layer_statistics.ts";

/** How a verification is run. */
export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Result of the check. */
export interface VerifyReport {
  /** Whether stock ComfyUI loads it and computes with it what it means. */
  readonly loads: boolean;
  /** Errors first; layers in file order. */
  readonly problems: readonly Problem[];
  /** Quantized layers by format; `I8 scale_weight` and the like if no marker names one. */
  readonly quantized: Readonly<Record<string, number>>;
  readonly tensors: number;
  /** Bytes of tensors that were read, all of them. */
  readonly checkedBytes: number;
}

/**
 * Returns what is wrong with a model, reading all of it.
 *
 * @throws InterruptedError if the signal aborts; Error if a tensor cannot be read.
 */
export async function verifyModel(
  source: ModelSource,
  pool: WorkerPool,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  using reader = new TensorReader(source);
  const readBytes: ReadBytes = (tensor) => reader.read(tensor);
  const { layers, emptyMarkers } = readQuantizedModel(source, readBytes);
  const problems = [
    ...emptyMarkers.map(emptyMarkerProblem),
    ...headerProblems(source, layers, readBytes),
    ...scaleProblems(source, layers, readBytes),
    ...await valueProblems(source, layers, { pool, options }),
  ];
  return {
    loads: !problems.some(isError),
    problems: errorsFirst(problems),
    quantized: countFormats(layers),
    tensors: source.tensors.length,
    checkedBytes: source.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

/** Whether a problem is one that keeps a file from working. */
export function isError({ severity }: Problem): boolean {
  return severity === "error";
}

/** Returns the problems with the errors first, otherwise in their order. */
function errorsFirst(problems: readonly Problem[]): Problem[] {
  return [...problems.filter(isError), ...problems.filter((problem) => !isError(problem))];
}

/** The problems that names, dtypes, shapes and markers show; milliseconds. */
export function headerProblems(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
  readBytes: ReadBytes,
): Problem[] {
  const context: RuleContext = {
    byName: tensorsByName(source),
    listed: readQuantizationMetadata(source.metadata).layers,
    readBytes,
  };
  return [
    ...modelProblems(source, layers),
    ...layers.flatMap((layer) => layerProblems(layer, context)),
  ];
}

/** `json.loads` of the loader refuses it. */
function emptyMarkerProblem(name: string): Problem {
  return {
    layer: name.replace(/\.?comfy_quant$/, ""),
    rule: "marker-malformed",
    effect: "fails at load: the marker cannot be read",
    severity: "error",
    detail: `${name} is NUL bytes and nothing else`,
    hint: `\`quantsmith edit --remove-keys ${name}\` removes it`,
  };
}

function scaleProblems(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
  readBytes: ReadBytes,
): Problem[] {
  const tensors = tensorsByName(source);
  return layers.flatMap((layer) => scaleValueProblems(layer, tensors, { readBytes }));
}

/** Reads every tensor, and looks for NaN and infinities in those that hold floats. */
async function valueProblems(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
  { pool, options }: { pool: WorkerPool; options: VerifyOptions },
): Promise<Problem[]> {
  const tasks = source.tensors.map(scanOf);
  const numbers = await pool.run({ ...options, inputPaths: source.paths, outputs: [], tasks });
  const byWeight = new Map(layers.map(({ weightName, layer }) => [weightName, layer]));
  const parts = new Set(layers.flatMap(({ partNames }) => partNames));
  return source.tensors.flatMap((tensor, index): Problem[] => {
    const { count, first } = nonFiniteOf("scan", numbers[index]!);
    if (count === 0 || parts.has(tensor.name)) return []; // scales have their own rule
    const layer = byWeight.get(tensor.name);
    // A kept tensor may mean it: attention masks hold infinities. Codes never do.
    return [{
      layer: layer ?? tensor.name,
      rule: "values-not-finite",
      effect: layer === undefined ? "loads, computes with them" : "loads, computes NaN",
      severity: layer === undefined ? "warning" : "error",
      detail: `${tensor.name} holds ${count} NaN or infinite values, ` +
        `the first at index ${first}`,
    }];
  });
}

/** Floats are decoded; of anything else the bytes are read, as codes, which are always finite. */
function scanOf(tensor: SourceTensor): ScanTask {
  const { name, dtype, file, offsetBytes, byteLength } = tensor;
  const place = { name, file, offsetBytes, scale: null, convrotGroupSize: null };
  const values: Pick<MatrixSource, "dtype" | "rows" | "cols"> = isFloatDType(dtype)
    ? { dtype, rows: 1, cols: tensor.shape.reduce((product, size) => product * size, 1) }
    : { dtype: "I8", rows: 1, cols: byteLength };
  return { kind: "scan", name, source: { ...place, ...values }, limit: Infinity };
}
