/** Memory of the workers for a run: what each has of its own, and what they share. */

import { LINALG_WORKSPACE_BYTES } from "../../backend/cpu/arena.ts";
import { isDoneAlone, needsLinalg, scratchBytes, sharedBytes } from "../task_kinds.ts";
import { distinctTasks } from "../shared_tasks.ts";
import { TaskList } from "../task_list.ts";
import type { Task } from "../tasks.ts";

/** Arenas start at multiples of this. */
const ARENA_UNIT = 1 << 16;

/** Returns the bytes of memory that each worker's arena takes for `tasks`. */
export function arenaBytesFor(tasks: readonly Task[]): number {
  const distinct = distinctTasks(tasks), list = new TaskList(distinct);
  const most = list.tasks.reduce(
    (most, task, index) => Math.max(most, scratchBytes(task, list.grids[index]!)),
    0,
  );
  const workspace = distinct.some(needsLinalg) ? LINALG_WORKSPACE_BYTES + ARENA_UNIT : 0;
  return Math.ceil((most + workspace) / ARENA_UNIT) * ARENA_UNIT + aloneBytesFor(tasks);
}

/** Returns the bytes at the end of each worker's arena for layers that it does alone, besides their bands. */
export function aloneBytesFor(tasks: readonly Task[]): number {
  return mostShared(distinctTasks(tasks).filter(isDoneAlone));
}

/** Returns the bytes of memory that the workers share for `tasks`, besides their arenas. */
export function teamBytesFor(tasks: readonly Task[]): number {
  return mostShared(distinctTasks(tasks).filter((task) => !isDoneAlone(task)));
}

function mostShared(tasks: readonly Task[]): number {
  const most = tasks.reduce((most, task) => Math.max(most, sharedBytes(task)), 0);
  return Math.ceil(most / ARENA_UNIT) * ARENA_UNIT;
}
