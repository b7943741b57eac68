/** The largest magnitudes that SmoothQuant weighs: of the columns of weights, and of their inputs. */

import { layerName } from "../core/layer_name.ts";
import { decodeFloats } from "../lora/decode_floats.ts";
import { mostOf } from "../quant/smoothing.ts";
import { readRange } from "../safetensors/reader.ts";
import type { Calibration, LayerStatistic } from "../calibration/calibration.ts";
import type { Prepared } from "./prepare.ts";
import { chunkCount } from "../run/chunk_grid.ts";
import { chunkGrid } from "../run/task_kinds.ts";
import { type ColumnMaxTask, elementBytes } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { PoolRun, WorkerPool } from "../run/workers/worker_pool.ts";

/** Per weight name, f32 `[K]`. Inputs of which nothing is known are not there. */
export interface Magnitudes {
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly inputs: ReadonlyMap<string, Float32Array>;
}

/** Returns the magnitudes of the weights `names`, whose tensors and activations the workers read. */
export async function magnitudesOf(
  prepared: Prepared,
  names: readonly string[],
  { pool, run }: { pool: WorkerPool; run: Pick<PoolRun, "signal" | "onProgress"> },
): Promise<Magnitudes> {
  const { calibration, inputsOptions } = prepared;
  const sources = new Map(prepared.model.tensors.map((tensor) => [tensor.name, tensor]));
  const weightTasks = names.map((name) => maxTask(prepared.matrixOf(sources.get(name)!)));
  const inputs = new Map<string, Float32Array>();
  const inputTasks: ColumnMaxTask[] = [];
  for (const name of calibration === null ? [] : names) {
    const fields = calibration!.fields.get(layerName(name)) ?? {};
    const { channel_max, activations, hessian, channel_mean } = fields;
    if (channel_max !== undefined) {
      inputs.set(name, rowsOf(calibration!, channel_max).map(Math.abs));
    } else if (activations !== undefined) {
      const { data, rows, cols } = activations;
      if (data.kind === "inline") inputs.set(name, mostOf(splitRows(data.values, cols)));
      else {
        const file = data.file + inputsOptions.fileOffset;
        const plain = { scale: null, convrotGroupSize: null };
        inputTasks.push(maxTask({ ...plain, ...data, file, name, rows, cols }));
      }
    } else if (hessian !== undefined) {
      const values = rowsOf(calibration!, hessian), { cols } = hessian;
      inputs.set(
        name,
        Float32Array.from(
          { length: cols },
          (_, k) => Math.sqrt(Math.max(0, values[k * (cols + 1)]!)),
        ),
      );
    } else if (channel_mean !== undefined) {
      inputs.set(name, rowsOf(calibration!, channel_mean).map(Math.abs));
    }
  }
  const tasks = [...weightTasks, ...inputTasks];
  await pool.run({ ...run, inputPaths: prepared.inputPaths, outputs: [], tasks });
  for (const task of inputTasks) inputs.set(task.name, resultOf(task));
  return { weights: new Map(weightTasks.map((task) => [task.name, resultOf(task)])), inputs };
}

function maxTask(source: MatrixSource): ColumnMaxTask {
  const task: ColumnMaxTask = {
    kind: "columnMax",
    name: source.name,
    source,
    out: new Float32Array(),
  };
  const length = chunkCount(chunkGrid(task)) * source.cols;
  return { ...task, out: new Float32Array(new SharedArrayBuffer(4 * length)) };
}

function resultOf({ out, source }: ColumnMaxTask): Float32Array {
  return mostOf(splitRows(out, source.cols));
}

function splitRows(values: Float32Array, cols: number): Float32Array[] {
  return Array.from(
    { length: values.length / cols },
    (_, k) => values.subarray(k * cols, (k + 1) * cols),
  );
}

/** All values of a statistic. */
function rowsOf({ paths }: Calibration, { data, rows, cols }: LayerStatistic): Float32Array {
  if (data.kind === "inline") return data.values.slice();
  const length = rows * cols * elementBytes(data.dtype);
  const bytes = readRange(paths[data.file]!, data.offsetBytes, length);
  return decodeFloats({ name: "", dtype: data.dtype, shape: [rows, cols], data: bytes });
}
