/** Whether the bytes that a journal vouches for are those in the partial files. */

import { InterruptedError } from "../../core/errors.ts";
import { type FinishedWork, withoutChunks } from "../../run/workers/checkpoints.ts";
import { TaskList } from "../../run/task_list.ts";
import type { Task } from "../../run/tasks.ts";
import type { OutputPlace } from "../../safetensors/output_place.ts";
import { WrittenChecker } from "../../safetensors/written_bytes.ts";

/** Finished work that is still good after it was read back. */
export interface CheckedWork {
  readonly finished: FinishedWork;
  /** Chunks whose bytes are not those that were written: they are done again. */
  readonly damaged: number;
  /** How many were checked. */
  readonly checked: number;
}

/**
 * Reads back what an earlier run wrote, and drops the chunks that are not as they were written.
 *
 * @param request.tasks of the run, by whose chunks the work is numbered.
 * @param request.rewritten names of tasks whose bytes a later step replaces: they are done again, unchecked.
 * @throws InterruptedError if `signal` aborts; Error if the files cannot be read.
 */
export async function checkFinished(
  finished: FinishedWork,
  { tasks, places, rewritten, signal }: {
    readonly tasks: readonly Task[];
    readonly places: readonly OutputPlace[];
    readonly rewritten: ReadonlySet<string>;
    readonly signal: AbortSignal | undefined;
  },
): Promise<CheckedWork> {
  const again = rewrittenChunks(finished, tasks, rewritten);
  const damaged = new Set<number>();
  await using checker = new WrittenChecker(places);
  for (const chunk of finished.chunks) {
    if (again.has(chunk)) continue;
    for (const bytes of finished.written.get(chunk) ?? []) {
      if (signal?.aborted) throw new InterruptedError("`--resume` continues the run");
      if (await checker.holds(bytes)) continue;
      damaged.add(chunk);
      break;
    }
  }
  return {
    finished: withoutChunks(tasks, finished, new Set([...again, ...damaged])),
    damaged: damaged.size,
    checked: finished.chunks.length - again.size,
  };
}

function rewrittenChunks(
  { chunks }: FinishedWork,
  tasks: readonly Task[],
  rewritten: ReadonlySet<string>,
): Set<number> {
  const list = new TaskList(tasks);
  return new Set(chunks.filter((chunk) => rewritten.has(tasks[list.taskOf(chunk)]!.name)));
}
