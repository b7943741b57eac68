/**
 * Announces to the threads that fetch from servers what the workers of a run will read, in the order they will:
 * fetching runs ahead of them, and what was read once is let go.
 */

import { ChannelClient, type FileRange, type RemotePath } from "../../remote/channel.ts";
import type { InputPath } from "../../remote/input_path.ts";
import { readsOf, readsValuesAgain } from "../task_kinds.ts";
import type { TaskList } from "../task_list.ts";
import type { Task } from "../tasks.ts";

/**
 * Announces to every server of `inputPaths` its part of the reads of `list`. Nothing to do for local files.
 *
 * @param isDone whether a chunk is left out, by its number. Bytes fetched for it would be waited
 *   for in vain; the rest of its task is fetched when it is asked for.
 */
export function announceReads(
  inputPaths: readonly InputPath[],
  list: TaskList,
  isDone: (chunk: number) => boolean = () => false,
): void {
  const remote = inputPaths.filter((path) => typeof path !== "string");
  for (const { channel } of new Map(remote.map((path) => [path.channel.id, path])).values()) {
    const fileOf = (number: number): RemotePath | null => {
      const path = inputPaths[number]!;
      return typeof path !== "string" && path.channel.id === channel.id ? path : null;
    };
    const ranges = readOrder(untouched(list, isDone)).flatMap((range) => {
      const path = fileOf(range.file);
      return path === null ? [] : [{ ...range, file: path.file }];
    });
    const client = new ChannelClient(channel);
    try {
      if (readsAgain(list)) client.keep();
      client.schedule(ranges);
    } finally {
      client.close();
    }
  }
}

/** The tasks of which no chunk is left out. */
function untouched(list: TaskList, isDone: (chunk: number) => boolean): Task[] {
  return list.tasks.filter((_, task) => {
    const end = list.firstChunk[task + 1]!;
    for (let chunk = list.firstChunk[task]!; chunk < end; chunk++) if (isDone(chunk)) return false;
    return true;
  });
}

/** Whether some values are read more than once. */
export function readsAgain({ tasks, grids }: Pick<TaskList, "tasks" | "grids">): boolean {
  return tasks.some((task, index) => grids[index]!.streamed || readsValuesAgain(task));
}

/** Returns the bytes that tasks read, by the numbers of files in the run; without scales and calibration data. */
export function readOrder(tasks: readonly Task[]): FileRange[] {
  return tasks.flatMap(readsOf).filter(({ begin, end }) => end > begin);
}
