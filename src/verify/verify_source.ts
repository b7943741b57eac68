/**
 * Holds a file against the model it was made from: the errors of every quantized layer, every kept
 * tensor byte by byte, and what is missing, new or of another shape.
 */

import { type DType, isFloatDType } from "../core/dtype.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import { layerRule } from "../presets/rule.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type QuantizedLayer, readQuantizedModel } from "../formats/quant_layers.ts";
import { TensorReader } from "../safetensors/reader.ts";
import {
  type LayerErrors,
  layerErrors,
  numbersOf,
  overallErrors,
  type TaskNumbers,
  worstLayersFirst,
} from "../run/layer_statistics.ts";
import { isScaledFp8 } from "../formats/marker_reader.ts";
import {
  layersByWeight,
  logicalModel,
  storedMatrix,
  tensorsByName,
} from "../formats/stored_matrix.ts";
import type { Task } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { OutputErrors } from "../convert/output_errors.ts";
import type { VerifyOptions } from "./verify.ts";
import type { Problem } from "../formats/problem.ts";
import type { WorkerPool } from "../run/workers/worker_pool.ts";

/** Errors of one stored weight against its source. */
export interface ComparedLayer {
  /** Name of the weight. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly errors: LayerErrors;
  /** The numbers behind the errors. */
  readonly stats: Float64Array;
  /** Errors of its outputs; absent if they were not measured. */
  readonly output?: OutputErrors | null;
}

/** Result of the comparison. */
export interface SourceReport {
  /** Whether nothing but the rounding of quantized and cast tensors differs. */
  readonly matches: boolean;
  readonly problems: readonly Problem[];
  /** Quantized layers, worst first. */
  readonly layers: readonly ComparedLayer[];
  /** All quantized layers as one; null if there is none. */
  readonly overall: LayerErrors | null;
  /** Float tensors of another dtype than in the source. */
  readonly cast: readonly ComparedLayer[];
  /** Float tensors of the source's dtype that hold other values, with how far they are from it. */
  readonly changed: readonly ComparedLayer[];
  /** Tensors whose bytes are the source's. */
  readonly identical: number;
}

/** From this relative error on, the codes are of other weights, or are read in a wrong way. */
const FOREIGN_ERROR = 0.5;

/** Relative errors that rounding to a dtype stays below: half a unit in the last place. */
const CAST_ERRORS: Readonly<Partial<Record<DType, number>>> = {
  F64: 1e-6,
  F32: 1e-6,
  F16: 2 ** -10,
  BF16: 2 ** -8,
  F8_E4M3: 2 ** -4,
  F8_E5M2: 2 ** -3,
};

/** A model with its quantized layers by the name of their weight. */
interface Side {
  readonly model: ModelSource;
  readonly tensors: ReadonlyMap<string, SourceTensor>;
  readonly layers: ReadonlyMap<string, QuantizedLayer>;
  /** Markers and scales: what belongs to a weight. */
  readonly parts: ReadonlySet<string>;
  readonly fileOffset: number;
}

/** One tensor's comparison: what to run, and what its numbers mean. */
interface Comparison {
  readonly task: Task;
  readonly kind: "quantized" | "cast" | "kept" | "bias";
  readonly tensor: SourceTensor;
}

/**
 * Compares `stored` with `source`, which may be quantized itself.
 *
 * @throws InterruptedError if the signal aborts; Error if a tensor cannot be read.
 */
export async function verifyAgainstSource(
  stored: ModelSource,
  source: ModelSource,
  { pool, ...options }: VerifyOptions & { readonly pool: WorkerPool },
): Promise<SourceReport> {
  const theirs = sideOf(source, stored.paths.length);
  const shapes = new Map(theirs.model.tensors.map(({ name, shape }) => [name, shape]));
  const ours = sideOf(stored, 0, shapes);
  const problems: Problem[] = [...missingProblems(ours, theirs), ...addedProblems(ours, theirs)];
  const comparisons: Comparison[] = [];
  for (const tensor of ours.model.tensors) {
    const original = theirs.tensors.get(tensor.name);
    if (original === undefined || ours.parts.has(tensor.name)) continue;
    const found = compareOne({ ours, theirs }, tensor, original);
    if ("rule" in found) problems.push(found);
    else comparisons.push(found);
  }
  const inputPaths = [...stored.paths, ...source.paths];
  const run = (tasks: readonly Task[]) => pool.run({ ...options, inputPaths, outputs: [], tasks });
  const report = conclude(comparisons, await run(comparisons.map(({ task }) => task)), problems);
  // Only if bytes differ it is worth reading twice: by how much is the next question.
  const changed = report.problems.filter(({ rule }) => rule === "kept-differs")
    .map(({ layer }) => ours.tensors.get(layer)!).filter(({ dtype }) => isFloatDType(dtype));
  const numbers = await run(changed.map((tensor): Task => ({
    kind: "compare",
    name: tensor.name,
    reference: storedMatrix(source, theirs.tensors.get(tensor.name)!, null, theirs),
    stored: storedMatrix(stored, tensor, null),
  })));
  return { ...report, changed: worstLayersFirst(changed.map((t, i) => compared(t, numbers[i]!))) };
}

function compared({ name, shape }: SourceTensor, numbers: TaskNumbers): ComparedLayer {
  return { name, shape, errors: layerErrors(numbers), stats: numbers };
}

/** @param shapes of weights in another file of the same model, for those that `stored` does not say. */
function sideOf(
  stored: ModelSource,
  fileOffset: number,
  shapes?: ReadonlyMap<string, readonly number[]>,
): Side {
  using reader = new TensorReader(stored);
  const found = readQuantizedModel(stored, (tensor) => reader.read(tensor), { shapes });
  const parts = new Set([
    ...found.emptyMarkers,
    ...found.layers.flatMap(({ partNames }) => partNames),
    ...stored.tensors.map(({ name }) => name).filter(isScaledFp8),
  ]);
  const model = logicalModel(stored, found.layers);
  return {
    model,
    tensors: tensorsByName(model),
    layers: layersByWeight(found.layers),
    parts,
    fileOffset,
  };
}

function missingProblems(ours: Side, theirs: Side): Problem[] {
  const detection = detect(theirs.model.tensors);
  const rule = layerRule({
    tier: "balanced",
    detection,
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
  });
  return theirs.model.tensors
    .filter((tensor) =>
      !ours.tensors.has(tensor.name) && !theirs.parts.has(tensor.name) &&
      rule(tensor).action !== "remove" // what the family does not use may go
    )
    .map(({ name }) =>
      problem(name, "tensor-missing", {
        effect: "a missing key at load, or weights that are not the model's",
        detail: "the source has this tensor and the file does not",
      })
    );
}

function addedProblems(ours: Side, theirs: Side): Problem[] {
  return ours.model.tensors
    .filter(({ name }) => !theirs.tensors.has(name) && !ours.parts.has(name))
    .map(({ name }) => ({
      ...problem(name, "tensor-added", {
        effect: "loads, ignores it or reports an unexpected key",
        detail: "the file has this tensor and the source does not",
      }),
      severity: "warning" as const,
    }));
}

/** Returns how one tensor is compared, or why it cannot be. */
function compareOne(
  { ours, theirs }: { ours: Side; theirs: Side },
  tensor: SourceTensor,
  original: SourceTensor,
): Comparison | Problem {
  const { name } = tensor;
  const layer = ours.layers.get(name) ?? null;
  const sourceLayer = theirs.layers.get(name) ?? null;
  const { shape } = tensor, wanted = original.shape;
  if (!sameShape(shape, wanted)) {
    return problem(name, "shape-differs", {
      effect: "a size mismatch at load",
      detail: `it is [${shape.join(", ")}], the source has [${wanted.join(", ")}]`,
    });
  }
  if (layer === null && sourceLayer === null && tensor.dtype === original.dtype) {
    const isBias = name.endsWith(".bias") && ours.layers.has(name.replace(/bias$/, "weight"));
    const kind = isBias ? "bias" : "kept";
    return { kind, tensor, task: bytesTask(tensor, original, theirs.fileOffset) };
  }
  const readable = (side: QuantizedLayer | null, dtype: DType): boolean =>
    side !== null || isFloatDType(dtype);
  if (!readable(layer, tensor.dtype) || !readable(sourceLayer, original.dtype)) {
    return problem(name, "dtype-differs", {
      effect: "loads other values than the source's, or fails",
      detail: `it is ${tensor.dtype}, the source has ${original.dtype}`,
    });
  }
  try {
    const stored = storedMatrix(ours.model, tensor, layer);
    const reference = storedMatrix(theirs.model, original, sourceLayer, theirs);
    return {
      kind: layer === null ? "cast" : "quantized",
      tensor,
      task: { kind: "compare", name, ...alike(reference, stored) },
    };
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof UnsupportedError)) throw error;
    return problem(name, "not-comparable", {
      effect: "nothing is known of its error",
      detail: error.message,
    });
  }
}

/** Gives both matrices the rows and columns of the one whose scales or rotation need them. */
function alike(
  reference: MatrixSource,
  stored: MatrixSource,
): { reference: MatrixSource; stored: MatrixSource } {
  const isPlain = (matrix: MatrixSource) =>
    matrix.scale === null && matrix.convrotGroupSize === null && matrix.packed === undefined;
  const { rows, cols } = isPlain(stored) ? reference : stored;
  const shaped = (matrix: MatrixSource): MatrixSource =>
    isPlain(matrix) ? { ...matrix, rows, cols } : matrix;
  return { reference: shaped(reference), stored: shaped(stored) };
}

function bytesTask(tensor: SourceTensor, original: SourceTensor, fileOffset: number): Task {
  return {
    kind: "compareBytes",
    name: tensor.name,
    file: tensor.file,
    offsetBytes: tensor.offsetBytes,
    otherFile: original.file + fileOffset,
    otherOffsetBytes: original.offsetBytes,
    byteLength: tensor.byteLength,
  };
}

function conclude(
  comparisons: readonly Comparison[],
  numbers: readonly TaskNumbers[],
  problems: Problem[],
): Omit<SourceReport, "changed"> {
  const layers: ComparedLayer[] = [];
  const cast: ComparedLayer[] = [];
  let identical = 0;
  comparisons.forEach(({ kind, tensor }, index) => {
    if (kind === "kept" || kind === "bias") {
      const { different } = numbersOf("compareBytes", numbers[index]!);
      if (different === 0) identical++;
      else if (kind === "bias") problems.push(biasProblem(tensor));
      else problems.push(keptProblem(tensor, different));
      return;
    }
    const layer = compared(tensor, numbers[index]!);
    (kind === "quantized" ? layers : cast).push(layer);
    const limit = kind === "quantized" ? FOREIGN_ERROR : CAST_ERRORS[tensor.dtype] ?? 0;
    if (layer.errors.relativeError > limit) {
      problems.push(valuesProblem(tensor, layer.errors, kind));
    }
  });
  return {
    matches: !problems.some(({ severity }) => severity === "error"),
    problems,
    layers: worstLayersFirst(layers),
    overall: overallErrors(layers),
    cast: worstLayersFirst(cast),
    identical,
  };
}

/** The rule of a bias that is not the source's, beside a quantized weight. */
export const BIAS_DIFFERS = "bias-differs";

function biasProblem({ name }: SourceTensor): Problem {
  return {
    ...problem(name, BIAS_DIFFERS, {
      effect: "loads; outputs are shifted, toward those of the source if the bias was corrected",
      detail: "it is not the source's: bias correction explains that, and `--calibration-data` " +
        "measures what it does",
    }),
    severity: "warning",
  };
}

function keptProblem({ name, byteLength }: SourceTensor, different: number): Problem {
  return problem(name, "kept-differs", {
    effect: "loads, computes with other values than the source's",
    detail: `${different} of its ${byteLength} bytes are not the source's`,
  });
}

function valuesProblem(
  { name }: SourceTensor,
  errors: LayerErrors,
  kind: "quantized" | "cast",
): Problem {
  return problem(name, kind === "cast" ? "cast-differs" : "weights-differ", {
    effect: "loads, computes with other values than the source's",
    detail: `its relative error is ${errors.relativeError.toPrecision(3)}, ` +
      `more than ${kind === "cast" ? "its dtype" : "any rounding"} explains`,
  });
}

function problem(
  layer: string,
  rule: string,
  { effect, detail }: { effect: string; detail: string },
): Problem {
  return { layer, rule, effect, severity: "error", detail };
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
