/**
 * The last steps for quantized layers, once their codes are in the file: biases are corrected, scales of
 * static activations written, and the errors of outputs measured, of what the file then holds. Codes and
 * scales are read back from it by the rules that loaders go by.
 */

import { layerName } from "../core/layer_name.ts";
import { DTYPE_BITS } from "../core/dtype.ts";
import { groupBy } from "../core/group_by.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { statisticsName } from "../calibration/expert_statistics.ts";
import { sameShape } from "../formats/layer_shapes.ts";
import { matrixRows } from "../formats/matrix_rows.ts";
import { GEMM_I8_TERMS_MAX } from "../linalg/linalg_kernels.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { findQuantizedLayers, type QuantizedLayer } from "../formats/quant_layers.ts";
import type { OutputPlace } from "../safetensors/output_place.ts";
import { openFiles, TensorReader } from "../safetensors/reader.ts";
import { foldNumbers, numbersOf, type TaskNumbers } from "../run/layer_statistics.ts";
import { placeOnGpu } from "../run/gpu_tasks.ts";
import {
  type LayerInputs,
  meanInput,
  type MeasuredOn,
  measuringInputs,
  scaleInput,
} from "../calibration/layer_inputs.ts";
import { floatMatrix } from "../formats/float_matrix.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { type OutputErrors, outputErrors } from "./output_errors.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";
import type { Stages } from "../run/staged_progress.ts";
import { layersByWeight, storedMatrix, tensorsByName } from "../formats/stored_matrix.ts";
import type { CorrectBiasTask, InputScaleTask, MeasureTask, Task } from "../run/tasks.ts";
import { type MatrixSource, runsInInt8 } from "../formats/matrix_source.ts";
import type { PoolRun, WorkerPool } from "../run/workers/worker_pool.ts";

/** Change of the bias of a layer. */
export interface BiasChange {
  /** Name of the bias. */
  readonly name: string;
  /** How much of the mean input was taken, 0..1; 0: the bias is the source's. */
  readonly factor: number;
  /** Root mean square of what was added. */
  readonly change: number;
  /** Root mean square of the bias before. */
  readonly before: number;
}

/** Results of {@link finishLayers}, by name of the weight. */
export interface Finished {
  readonly outputs: ReadonlyMap<string, OutputErrors>;
  readonly biases: ReadonlyMap<string, BiasChange>;
}

/** The work, and the data for it. */
export interface FinishRequest {
  readonly plan: Plan;
  readonly pool: WorkerPool;
  /** The files that are being written: complete but for what is done here. */
  readonly outputs: readonly OutputPlace[];
  readonly options: Pick<ConvertOptions, "biasCorrection" | "staticActivations">;
  /** Whether outputs are measured. */
  readonly measure: boolean;
  readonly signal: AbortSignal | undefined;
  /** Progress of the two steps goes there. */
  readonly stages: Pick<Stages<"biases" | "outputs">, "of">;
}

/** Does all that the calibration data of `prepared` allows. */
export async function finishLayers(prepared: Prepared, request: FinishRequest): Promise<Finished> {
  const outputs = new Map<string, OutputErrors>(), biases = new Map<string, BiasChange>();
  if (prepared.calibration === null) return { outputs, biases };
  const layers = layersOf(prepared, request);
  const { pool, outputs: places, stages, signal } = request;
  const inputPaths = [...prepared.inputPaths, ...places.map(({ path }) => path)];
  const corrections = request.options.biasCorrection
    ? layers.flatMap((layer) => biasTask(prepared, layer) ?? [])
    : [];
  const scales = request.options.staticActivations
    ? layers.flatMap((layer) => scaleTask(prepared, layer) ?? [])
    : [];
  if (corrections.length + scales.length > 0) {
    const tasks: Task[] = [...corrections.map(({ task }) => task), ...scales];
    const onProgress = stages.of("biases");
    const numbers = await pool.run({ signal, onProgress, inputPaths, outputs: places, tasks });
    const corrected = corrections.map(({ layer, task }, index) => ({
      name: layer.source.name,
      task,
      numbers: numbers[index]!,
    }));
    for (const [name, parts] of groupBy(corrected, ({ name }) => name)) {
      biases.set(name, biasChange(parts));
    }
  }
  if (!request.measure) return { outputs, biases };
  const measures = layers.flatMap((layer) => measureOne(prepared, layer) ?? []);
  const run = { signal, onProgress: stages.of("outputs"), inputPaths };
  for (const [name, errors] of await runMeasures(pool, measures, run)) {
    outputs.set(name, errors);
  }
  return { outputs, biases };
}

/** Returns the change of a bias from the sums of its tasks: one, or one per expert of a bank. */
function biasChange(
  parts: readonly { readonly task: CorrectBiasTask; readonly numbers: TaskNumbers }[],
): BiasChange {
  const { change, before } = numbersOf(
    "correctBias",
    foldNumbers("correctBias", parts.map(({ numbers }) => numbers)),
  );
  const size = parts.reduce((sum, { task }) => sum + task.bias.rows * task.bias.cols, 0);
  const factors = parts.map(({ numbers }) => numbersOf("correctBias", numbers).factor);
  return {
    name: parts[0]!.task.name,
    factor: factors.reduce((sum, factor) => sum + factor, 0) / parts.length,
    change: Math.sqrt(change / size),
    before: Math.sqrt(before / size),
  };
}

/** Names of the biases that {@link finishLayers} may replace after they were copied. */
export function rewrittenBiases(
  { calibration }: Pick<Prepared, "calibration">,
  { tensors }: Pick<Plan, "tensors">,
  { biasCorrection }: Pick<ConvertOptions, "biasCorrection">,
): Set<string> {
  if (calibration === null || !biasCorrection) return new Set();
  return new Set(
    tensors.flatMap(({ source, scheme }) =>
      scheme === null ? [] : [source.name.replace(/weight$/, "bias")]
    ),
  );
}

/** A measuring task with what its inputs are. */
export interface Measurement {
  readonly task: MeasureTask;
  readonly on: MeasuredOn;
}

/** Measures outputs; returns the errors by name of the weight. */
export async function runMeasures(
  pool: WorkerPool,
  measures: readonly Measurement[],
  run: Omit<PoolRun, "tasks" | "outputs">,
): Promise<[string, OutputErrors][]> {
  if (measures.length === 0) return [];
  const plain = measures.map(({ task }) => task);
  const tasks = pool.gpu === null ? plain : placeOnGpu(plain, pool.gpu.placement);
  const numbers = await pool.run({ ...run, outputs: [], tasks });
  const measured = measures.map((measure, index) => ({ ...measure, numbers: numbers[index]! }));
  // Experts of a bank are measured one by one, and their outputs are those of one layer.
  const byLayer = [...groupBy(measured, ({ task }) => task.name)];
  return byLayer.flatMap(([name, parts]): [string, OutputErrors][] => {
    const { task, on } = parts[0]!;
    const isInt8 = runsInInt8(task.stored);
    const rows = parts.reduce((sum, part) => sum + part.task.inputs.rows, 0);
    const whole = foldNumbers(task.kind, parts.map((part) => part.numbers));
    const found = outputErrors(whole, { on, rows, isInt8 });
    return found === null ? [] : [[name, found]];
  });
}

/** Whether a layer is one whose outputs can be measured with these inputs. */
export function isMeasurable(stored: MatrixSource, inputs: LayerInputs): boolean {
  return stored.cols === inputs.cols && stored.cols <= GEMM_I8_TERMS_MAX && stored.rows > 0;
}

/** The bias of a layer, or of one expert of a bank. */
interface FiledBias {
  readonly name: string;
  readonly dtype: CorrectBiasTask["dtype"];
  readonly source: MatrixSource;
  readonly stored: MatrixSource;
  readonly outOffsetBytes: number;
}

/** A quantized layer in the file, or one expert of a bank. */
interface FiledLayer {
  readonly source: SourceTensor;
  /** Name of its inputs in the data. */
  readonly inputsName: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
  readonly bias: FiledBias | null;
  readonly output: ModelSource;
  /** Place of a tensor of `output`. */
  readonly addressOf: (tensor: SourceTensor) => number;
}

function layersOf(prepared: Prepared, { plan, outputs }: FinishRequest): FiledLayer[] {
  const output = openFiles(outputs.map(({ path }) => path));
  const addressOf = ({ file, offsetBytes }: SourceTensor) =>
    outputs[file]!.startBytes + offsetBytes;
  const outputFile = prepared.inputPaths.length;
  const tensors = tensorsByName(output), sources = tensorsByName(prepared.model);
  const quantized = quantizedByWeight(output);
  return plan.tensors.flatMap(({ source, scheme }): FiledLayer[] => {
    const own = tensors.get(source.name), layer = quantized.get(source.name);
    if (scheme === null || own === undefined || layer === undefined) return [];
    const base = source.name.replace(/weight$/, "");
    const biasSource = sources.get(`${base}bias`), ownBias = tensors.get(`${base}bias`);
    const whole: FiledLayer = {
      source,
      inputsName: layerName(source.name),
      reference: prepared.matrixOf(source),
      stored: storedMatrix(output, own, layer, { fileOffset: outputFile }),
      bias: biasSource === undefined || ownBias === undefined || !isBias(ownBias, source) ? null : {
        name: ownBias.name,
        dtype: ownBias.dtype as CorrectBiasTask["dtype"],
        source: prepared.matrixOf(biasSource),
        stored: floatMatrix({ ...ownBias, file: ownBias.file + outputFile }),
        outOffsetBytes: addressOf(ownBias),
      },
      output,
      addressOf,
    };
    if (prepared.byExpert.has(source.name)) return expertsOf(prepared, whole);
    // Data of a bank as a whole is no data of an expert: their biases stay.
    return [source.shape.length === 3 ? { ...whole, bias: null } : whole];
  });
}

/** The experts of a bank, each as a layer with inputs of its own; the bank if it cannot be taken apart. */
function expertsOf({ calibration }: Prepared, bank: FiledLayer): FiledLayer[] {
  const { reference, stored, bias, source, inputsName } = bank;
  const experts = source.shape[0]!, rows = reference.rows / experts;
  const layers = Array.from({ length: experts }, (_, index): FiledLayer | null => {
    const own = [
      matrixRows(reference, index * rows, rows),
      matrixRows(stored, index * rows, rows),
    ] as const;
    const ownBias = bias === null ? null : expertBias(bias, index, rows);
    if (own[0] === null || own[1] === null) return null;
    return {
      ...bank,
      inputsName: statisticsName(calibration!.fields, inputsName, index),
      reference: own[0],
      stored: own[1],
      bias: ownBias,
    };
  });
  const apart = layers.filter((layer) => layer !== null);
  return apart.length === experts ? apart : [{ ...bank, bias: null }];
}

function expertBias(bias: FiledBias, expert: number, rows: number): FiledBias | null {
  const source = matrixRows(bias.source, expert, 1), stored = matrixRows(bias.stored, expert, 1);
  if (source === null || stored === null) return null;
  const bytes = DTYPE_BITS[bias.dtype] / 8;
  return { ...bias, source, stored, outOffsetBytes: bias.outOffsetBytes + expert * rows * bytes };
}

/** Returns the quantized layers of a model by the name of their weight. */
export function quantizedByWeight(model: ModelSource): ReadonlyMap<string, QuantizedLayer> {
  using reader = new TensorReader(model);
  return layersByWeight(findQuantizedLayers(model, (tensor) => reader.read(tensor)));
}

/** `[N]` of a weight `[N, K]`, `[E, N]` of a bank `[E, N, K]`. */
function isBias({ shape, dtype }: SourceTensor, weight: SourceTensor): boolean {
  return sameShape(shape, weight.shape.slice(0, -1)) &&
    (dtype === "F32" || dtype === "F16" || dtype === "BF16");
}

function biasTask(
  { calibration, inputsOptions }: Prepared,
  layer: FiledLayer,
): { task: CorrectBiasTask; layer: FiledLayer } | null {
  const { reference, stored, bias, inputsName } = layer;
  if (bias === null) return null;
  const mean = meanInput(calibration!, inputsName, inputsOptions);
  if (mean === null || mean.inputs.cols !== reference.cols) return null;
  const { name, dtype, outOffsetBytes } = bias;
  return {
    layer,
    task: {
      kind: "correctBias",
      name,
      reference,
      stored,
      mean,
      bias: bias.source,
      dtype,
      outOffsetBytes,
    },
  };
}

function scaleTask(
  { calibration, inputsOptions }: Prepared,
  { output, inputsName, stored, addressOf }: FiledLayer,
): InputScaleTask | null {
  const found = scaleInput(calibration!, inputsName, inputsOptions);
  const place = tensorsByName(output).get(`${inputsName}.input_scale`);
  if (found === null || place === undefined) return null;
  return {
    kind: "inputScale",
    name: place.name,
    inputs: found.inputs,
    isGiven: found.kind === "given",
    convrotGroupSize: stored.convrotGroupSize,
    outOffsetBytes: addressOf(place),
  };
}

function measureOne(
  { calibration, inputsOptions }: Prepared,
  { source, inputsName, reference, stored, bias }: FiledLayer,
): Measurement | null {
  const found = measuringInputs(calibration!, inputsName, inputsOptions);
  if (found === null || !isMeasurable(stored, found.inputs)) return null;
  return {
    on: found.on,
    task: {
      kind: "measure",
      name: source.name,
      reference,
      stored,
      bias: bias === null ? null : { reference: bias.source, stored: bias.stored },
      inputs: found.inputs,
    },
  };
}
