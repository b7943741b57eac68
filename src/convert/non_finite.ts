/** Values that cannot be quantized: which tensors hold them, and what is said of them. */

import { F16_MAX } from "../run/chunks/cast_chunk.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";
import { nonFiniteOf } from "../run/layer_statistics.ts";
import type { ScanTask, Task } from "../run/tasks.ts";
import type { NonFiniteError, WorkerPool } from "../run/workers/worker_pool.ts";

/** Returns the tasks that look for values which `task` cannot take. */
function scanOf(task: Task): ScanTask[] {
  if (task.kind !== "quantize" && task.kind !== "cast") return [];
  const limit = task.kind === "cast" && task.dtype === "F16" ? F16_MAX : Infinity;
  const source = task.kind === "quantize" ? task.expert?.bank ?? task.source : task.source;
  return [{ kind: "scan", name: task.name, source, limit }];
}

/** Reads the input once more than usual, to know which tensors `--nonfinite keep` keeps. */
export async function planAround(
  prepared: Prepared,
  pool: WorkerPool,
  { signal, tasks }: { signal: AbortSignal | undefined; tasks: readonly Task[] },
): Promise<Plan> {
  // Experts of a bank have one scan.
  const scans = [...new Map(tasks.flatMap(scanOf).map((scan) => [scan.name, scan])).values()];
  const numbers = await pool.run({
    inputPaths: prepared.inputPaths,
    outputs: [],
    tasks: scans,
    signal,
  });
  const bad = scans.filter((_, index) => nonFiniteOf("scan", numbers[index]!).count > 0).map((
    { name },
  ) => name);
  return bad.length === 0 ? prepared.plan : prepared.replan(new Set(bad));
}

function isF64(task: Task): boolean {
  return task.kind === "quantize" && task.source.dtype === "F64";
}

/** Returns the error that stopped the run at `task`, with counts over the whole tensor. */
export async function explainNonFinite(
  cause: NonFiniteError,
  task: Task,
  { prepared, pool }: { prepared: Prepared; pool: WorkerPool },
): Promise<Error> {
  const scans = scanOf(task);
  const [found] = await pool.run({
    inputPaths: prepared.inputPaths,
    outputs: [],
    tasks: scans,
  });
  const { count, first } = found === undefined
    ? { count: 0, first: -1 }
    : nonFiniteOf("scan", found);
  const isCast = task.kind === "cast";
  const values = isCast
    ? `${count} values that F16 cannot hold (NaN, infinite or beyond ${F16_MAX})`
    : isF64(task)
    ? `${count} values that F32, in which all is computed, cannot hold (NaN, infinite or beyond 3.4e38)`
    : `${count} NaN or infinite values`;
  return new Error(
    `Cannot ${isCast ? "cast" : "quantize"} tensor ${JSON.stringify(task.name)} of ` +
      `${JSON.stringify(prepared.model.path)}: it holds ${values}, the first at index ${first}; ` +
      "`--nonfinite keep` keeps such tensors in their dtype",
    { cause },
  );
}
