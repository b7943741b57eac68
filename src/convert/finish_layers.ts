/**
 * What is done for quantized layers once their codes are in the file: biases are corrected, scales of
 * static activations written, and the errors of outputs measured, of what the file then holds. Codes and
 * scales are read back from it by the rules that loaders go by.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { GEMM_I8_TERMS_MAX } from "../linalg/linalg_kernels.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { findQuantizedLayers, type QuantizedLayer } from "../formats/quant_layers.ts";
import type { OutputPlace } from "../safetensors/output_set.ts";
import { openFiles, TensorReader } from "../safetensors/reader.ts";
import { numbersOf } from "../run/layer_statistics.ts";
import { placeOnGpu } from "../run/gpu_tasks.ts";
import {
  type LayerInputs,
  meanInput,
  type MeasuredOn,
  measuringInputs,
  scaleInput,
} from "../calibration/layer_inputs.ts";
import { floatMatrix } from "../run/make_tasks.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { type OutputErrors, outputErrors } from "./output_errors.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";
import type { Stages } from "../run/stages.ts";
import { layersByWeight, storedMatrix, tensorsByName } from "../formats/stored_matrix.ts";
import type { CorrectBiasTask, InputScaleTask, MeasureTask, Task } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { PoolRun, WorkerPool } from "../run/workers/worker_pool.ts";

/** What became of the bias of a layer. */
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

/** What {@link finishLayers} finds, by name of the weight. */
export interface Finished {
  readonly outputs: ReadonlyMap<string, OutputErrors>;
  readonly biases: ReadonlyMap<string, BiasChange>;
}

/** What is to be done, and with what. */
export interface FinishRequest {
  readonly plan: Plan;
  readonly pool: WorkerPool;
  /** The files that are being written: complete but for what is done here. */
  readonly outputs: readonly OutputPlace[];
  readonly options: Pick<ConvertOptions, "biasCorrection" | "staticActivations">;
  /** Whether outputs are measured. */
  readonly measure: boolean;
  readonly signal: AbortSignal | undefined;
  /** What the two steps report their progress to. */
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
    corrections.forEach(({ layer, task }, index) => {
      const { factor, change, before } = numbersOf(task.kind, numbers[index]!);
      const size = task.bias.rows * task.bias.cols;
      biases.set(layer.source.name, {
        name: task.name,
        factor,
        change: Math.sqrt(change / size),
        before: Math.sqrt(before / size),
      });
    });
  }
  if (!request.measure) return { outputs, biases };
  const measures = layers.flatMap((layer) => measureOne(prepared, layer) ?? []);
  const run = { signal, onProgress: stages.of("outputs"), inputPaths };
  for (const [name, errors] of await runMeasures(pool, measures, run)) {
    outputs.set(name, errors);
  }
  return { outputs, biases };
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
  return measures.flatMap(({ task, on }, index): [string, OutputErrors][] => {
    const isInt8 = task.stored.dtype === "I8" && task.stored.scale !== null;
    const found = outputErrors(numbers[index]!, { on, rows: task.inputs.rows, isInt8 });
    return found === null ? [] : [[task.name, found]];
  });
}

/** Whether a layer is one whose outputs can be measured with these inputs. */
export function isMeasurable(stored: MatrixSource, inputs: LayerInputs): boolean {
  return stored.cols === inputs.cols && stored.cols <= GEMM_I8_TERMS_MAX && stored.rows > 0;
}

/** A quantized layer in the file. */
interface FiledLayer {
  readonly source: SourceTensor;
  readonly layerName: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
  readonly bias: { readonly source: MatrixSource; readonly own: SourceTensor } | null;
  readonly output: ModelSource;
  readonly outputFile: number;
  /** Where to write a tensor of `output`. */
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
    return [{
      source,
      layerName: source.name.replace(/\.weight$/, ""),
      reference: prepared.matrixOf(source),
      stored: storedMatrix(output, own, layer, { fileOffset: outputFile }),
      bias: biasSource === undefined || ownBias === undefined || !isBias(ownBias, source)
        ? null
        : { source: prepared.matrixOf(biasSource), own: ownBias },
      output,
      outputFile,
      addressOf,
    }];
  });
}

/** Returns the quantized layers of a model by the name of their weight. */
export function quantizedByWeight(model: ModelSource): ReadonlyMap<string, QuantizedLayer> {
  using reader = new TensorReader(model);
  return layersByWeight(findQuantizedLayers(model, (tensor) => reader.read(tensor)));
}

function isBias({ shape, dtype }: SourceTensor, weight: SourceTensor): boolean {
  return shape.length === 1 && shape[0] === weight.shape[0] &&
    (dtype === "F32" || dtype === "F16" || dtype === "BF16");
}

function biasTask(
  { calibration, inputsOptions }: Prepared,
  layer: FiledLayer,
): { task: CorrectBiasTask; layer: FiledLayer } | null {
  const { reference, stored, bias, layerName, addressOf } = layer;
  if (bias === null) return null;
  const mean = meanInput(calibration!, layerName, inputsOptions);
  if (mean === null || mean.inputs.cols !== reference.cols) return null;
  const { name } = bias.own;
  const dtype = bias.own.dtype as CorrectBiasTask["dtype"];
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
      outOffsetBytes: addressOf(bias.own),
    },
  };
}

function scaleTask(
  { calibration, inputsOptions }: Prepared,
  { output, layerName, stored, addressOf }: FiledLayer,
): InputScaleTask | null {
  const found = scaleInput(calibration!, layerName, inputsOptions);
  const place = tensorsByName(output).get(`${layerName}.input_scale`);
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
  { source, layerName, reference, stored, bias, outputFile }: FiledLayer,
): Measurement | null {
  const found = measuringInputs(calibration!, layerName, inputsOptions);
  if (found === null || !isMeasurable(stored, found.inputs)) return null;
  const own = bias === null ? null : floatMatrix({ ...bias.own, file: bias.own.file + outputFile });
  return {
    on: found.on,
    task: {
      kind: "measure",
      name: source.name,
      reference,
      stored,
      bias: own === null ? null : { reference: bias!.source, stored: own },
      inputs: found.inputs,
    },
  };
}
