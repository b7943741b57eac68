/**
 * Code of tasks beyond copying, casting and rounding to nearest: most runs need none of it, so it is loaded once
 * a run does, on the main thread and in the workers alike.
 */

import { later } from "../core/later.ts";
import type { MoreKinds } from "./task_kind.ts";
import type { Task } from "./tasks.ts";

let loaded: MoreKinds | null = null;

/** Whether `task` needs more than what is always there. */
export function needsMoreKinds(task: Task): boolean {
  switch (task.kind) {
    case "quantize":
      return task.compensation !== null || task.transform !== undefined ||
        task.learned !== undefined || task.levels !== undefined || task.floats !== undefined;
    case "inputScale":
    case "measure":
    case "correctBias":
    case "encode":
      return true;
    default:
      return false;
  }
}

/** Loads the code that `tasks` need besides what is always there. */
export async function loadKindsFor(tasks: readonly Task[]): Promise<void> {
  if (tasks.some(needsMoreKinds)) await loadMoreKinds();
}

/** Loads all of it. */
export async function loadMoreKinds(): Promise<void> {
  if (loaded !== null) return;
  const { MORE_KINDS } = await import(
    later("./more_kinds.ts")
  ) as typeof import("./more_kinds.ts");
  provideMoreKinds(MORE_KINDS);
}

/** Provides it at once: for programs that cannot wait. */
export function provideMoreKinds(kinds: MoreKinds): void {
  loaded = kinds;
}

/** Returns it. Throws TypeError if nothing has loaded it. */
export function moreKinds(): MoreKinds {
  if (loaded === null) throw new TypeError("Cannot plan or do a task: its code was not loaded");
  return loaded;
}
