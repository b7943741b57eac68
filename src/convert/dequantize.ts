/**
 * Turns a quantized model back into a plain float file: scales applied, rotations undone, markers and
 * scales gone, everything else byte for byte. The loss of rounding stays.
 */

import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { layoutTensors } from "../safetensors/layout.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { refuseChanged, watchInputs } from "../safetensors/input_watch.ts";
import { LockedOutput } from "../safetensors/locked_output.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { isScaledFp8, QUANTIZATION_METADATA_KEY } from "../formats/marker_reader.ts";
import {
  type QuantizedLayer,
  type QuantizedModel,
  readQuantizedModel,
} from "../formats/quant_layers.ts";
import { refuseOddScales } from "../formats/verify_values.ts";
import { TensorReader } from "../safetensors/reader.ts";
import {
  layersByWeight,
  logicalModel,
  refuseUndecodable,
  refuseUnquantized,
  shapesIn,
  storedMatrix,
} from "../formats/stored_matrix.ts";
import type { Task } from "../run/tasks.ts";
import { NonFiniteError, type Progress, type WorkerPool } from "../run/workers/worker_pool.ts";

/** Dtype of the restored weights. */
export type DequantizeDType = "F32" | "BF16" | "F16";

/** A dequantization before any value is read. */
export interface DequantizePlan {
  /** First bytes of the output: length and JSON. */
  readonly header: Uint8Array;
  /** Exact size of the output. */
  readonly totalBytes: number;
  /** In the order of the input, so that the disk is read forwards. */
  readonly tasks: readonly Task[];
  /** Names of the weights that are restored. */
  readonly restored: readonly string[];
  /** Names of the tensors that go: markers and scales. */
  readonly dropped: readonly string[];
  /** How many tensors are copied as they are. */
  readonly copied: number;
}

/** A dequantization to be done. */
export interface DequantizeRequest {
  readonly output: string;
  readonly dtype: DequantizeDType;
  /** Another file of the same model, for the shapes of weights that the input does not say. */
  readonly shapesOf?: ModelSource | undefined;
  /** Replace an existing output. */
  readonly force?: boolean;
  readonly pool: WorkerPool;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Result of a dequantization. */
export interface DequantizeResult {
  readonly output: string;
  readonly dtype: DequantizeDType;
  readonly restored: number;
  readonly copied: number;
  readonly dropped: number;
  readonly outputBytes: number;
  readonly elapsedMs: number;
}

/**
 * Returns what becomes of every tensor, and the output's header.
 *
 * @param layers what `findQuantizedLayers` found in `source`.
 * @param options.dropped names of tensors that go besides markers and scales: empty markers.
 * @throws FormatError if a layer is not what its marker says; UnsupportedError if nothing is
 *   quantized, or if a layer cannot be restored from what is stored.
 */
export function planDequantize(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
  { dtype, dropped = [] }: { dtype: DequantizeDType; dropped?: readonly string[] },
): DequantizePlan {
  refuseUndecodable(source, layers);
  refuseUnquantized(source, { layers, emptyMarkers: dropped }, "dequantize");
  const byWeight = layersByWeight(layers);
  const parts = new Set([...dropped, ...layers.flatMap(({ partNames }) => partNames)]);
  const isDropped = ({ name }: SourceTensor) => parts.has(name) || isScaledFp8(name);
  const kept = logicalModel(source, layers).tensors.filter((tensor) => !isDropped(tensor));
  const infos = kept.map((tensor): TensorInfo => ({
    name: tensor.name,
    dtype: byWeight.has(tensor.name) ? dtype : tensor.dtype,
    shape: tensor.shape,
  }));
  const { header, totalBytes, entries } = layoutTensors(infos, plainMetadata(source.metadata));
  const outOffsets = new Map(entries.map(({ name, offsetBytes }) => [name, offsetBytes]));
  const tasks = kept.map((tensor): Task => {
    const { name, file, offsetBytes, byteLength } = tensor;
    const outOffsetBytes = outOffsets.get(name)!;
    const layer = byWeight.get(name);
    if (layer === undefined) {
      return { kind: "copy", name, file, offsetBytes, byteLength, outOffsetBytes };
    }
    return {
      kind: "cast",
      name,
      source: storedMatrix(source, tensor, layer),
      dtype,
      outOffsetBytes,
    };
  });
  return {
    header,
    totalBytes,
    tasks,
    restored: kept.filter(({ name }) => byWeight.has(name)).map(({ name }) => name),
    dropped: source.tensors.filter(isDropped).map(({ name }) => name),
    copied: kept.length - byWeight.size,
  };
}

/**
 * Writes the plain float file of `source`. It appears under its name only when it is complete.
 *
 * @throws as {@link planDequantize}; UnsupportedError if the output exists or is the input;
 *   InterruptedError if the signal aborts; Error if reading or writing fails, or if a value
 *   does not fit F16. No output is left behind.
 */
export async function dequantizeModel(
  source: ModelSource,
  request: DequantizeRequest,
): Promise<DequantizeResult> {
  const started = performance.now();
  const { output: path, dtype, force = false, pool, signal, onProgress } = request;
  refuseSameFile(path, source.paths);
  const { layers, emptyMarkers } = quantizedModel(source, request.shapesOf);
  const plan = planDequantize(source, layers, { dtype, dropped: emptyMarkers });
  using reader = new TensorReader(source);
  refuseOddScales(source, layers, (tensor) => reader.read(tensor));
  const watched = watchInputs(source);
  using output = await LockedOutput.create(path, plan, { force });
  try {
    await pool.run({
      inputPaths: source.paths,
      outputs: output.set.places,
      tasks: plan.tasks,
      signal,
      onProgress,
    });
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    const name = JSON.stringify(plan.tasks[error.task]!.name);
    throw new Error(
      `Cannot write tensor ${name} as F16: it holds NaN, infinite or values beyond 65504; ` +
        "`--dtype BF16` and `--dtype F32` hold them",
      { cause: error },
    );
  }
  await source.secondLook?.();
  refuseChanged(watched);
  await output.commit();
  return {
    output: path,
    dtype,
    restored: plan.restored.length,
    copied: plan.copied,
    dropped: plan.dropped.length,
    outputBytes: plan.totalBytes,
    elapsedMs: performance.now() - started,
  };
}

function quantizedModel(source: ModelSource, shapesOf: ModelSource | undefined): QuantizedModel {
  using reader = new TensorReader(source);
  using other = shapesOf === undefined ? null : new TensorReader(shapesOf);
  const shapes = shapesOf === undefined
    ? undefined
    : shapesIn(shapesOf, (tensor) => other!.read(tensor));
  return readQuantizedModel(source, (tensor) => reader.read(tensor), { shapes });
}

/** The metadata without what says that layers are quantized; `{}` stays `{}`, none stays none. */
function plainMetadata(metadata: ModelSource["metadata"]): Record<string, string> | null {
  if (metadata === null) return null;
  const { [QUANTIZATION_METADATA_KEY]: _listed, ...rest } = metadata;
  return rest;
}
