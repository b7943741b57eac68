/**
 * Writes an edited model. Bytes that no operation changes are moved in runs as long as both files have
 * them in one piece, by positional reads and writes of a fixed size; nothing is decoded.
 */

import { refuseChanged, watchInputs } from "../safetensors/input_watch.ts";
import { LockedOutput } from "../safetensors/locked_output.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { type LayerErrors, layerErrors, nonFiniteOf } from "../run/layer_statistics.ts";
import { makeTasks } from "../run/make_tasks.ts";
import type { Task } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { Progress, WorkerPool } from "../run/workers/worker_pool.ts";
import type { EditedModel } from "./operation.ts";

/** How an edited model is written. */
export interface WriteRequest {
  readonly output: string;
  /** Replace an existing output. */
  readonly force?: boolean;
  readonly pool: WorkerPool;
  /** How the stored values of a weight that is rounded once more are read. */
  readonly matrixOf?: (weight: SourceTensor) => MatrixSource;
  readonly signal?: AbortSignal | undefined;
  readonly onLayer?: ((layer: RequantizedLayer) => void) | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** A weight that was rounded once more. */
export interface RequantizedLayer {
  readonly name: string;
  readonly shape: readonly number[];
  /** Errors that the second rounding adds: errors against the values that were stored before. */
  readonly errors: LayerErrors;
  /** The numbers behind them. */
  readonly stats: Float64Array;
}

/**
 * Writes the file; it appears under its name only when it is complete. Returns the weights that were
 * rounded once more, in file order.
 *
 * @throws UnsupportedError if the output exists or is an input; InterruptedError if the signal
 *   aborts; NonFiniteError if stored values are; Error if reading or writing fails. No output is
 *   left behind then.
 */
export async function writeEdited(
  edited: EditedModel,
  request: WriteRequest,
): Promise<RequantizedLayer[]> {
  const { pool, signal, onLayer, onProgress, force = false } = request;
  const { source, header, totalBytes } = edited;
  refuseSameFile(request.output, source.paths);
  const { tasks: single, inline } = makeTasks(edited, request.matrixOf);
  const tasks = coalesceCopies(single);
  const watched = watchInputs(source);
  using output = await LockedOutput.create(request.output, { header, totalBytes }, { force });
  for (const { bytes, offsetBytes } of inline) output.set.write(bytes, offsetBytes);
  const layers = new Map<number, RequantizedLayer>();
  await pool.run({
    inputPaths: source.paths,
    outputs: output.set.places,
    tasks,
    signal,
    onProgress,
    onTaskDone: (index, numbers) => {
      const task = tasks[index]!;
      if (task.kind !== "quantize" || nonFiniteOf(task.kind, numbers).count > 0) return;
      const { rows, cols } = task.source;
      const errors = layerErrors(numbers);
      const layer = { name: task.name, shape: [rows, cols], errors, stats: numbers };
      layers.set(index, layer);
      onLayer?.(layer);
    },
  });
  await source.secondLook?.();
  refuseChanged(watched);
  await output.commit();
  return tasks.flatMap((_, index) => layers.get(index) ?? []);
}

/** Returns the tasks with copies that follow one another in both files joined to one. */
export function coalesceCopies(tasks: readonly Task[]): Task[] {
  const joined: Task[] = [];
  for (const task of tasks) {
    const last = joined.at(-1);
    const follows = task.kind === "copy" && last?.kind === "copy" && task.file === last.file &&
      task.offsetBytes === last.offsetBytes + last.byteLength &&
      task.outOffsetBytes === last.outOffsetBytes + last.byteLength;
    if (follows) {
      joined[joined.length - 1] = { ...last, byteLength: last.byteLength + task.byteLength };
    } else joined.push(task);
  }
  return joined;
}
