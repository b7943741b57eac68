/** All tasks of a run, with the numbers of their chunks. */

import { chunkCount, type ChunkGrid } from "./chunk_grid.ts";
import { chunkGrid, isDoneAlone } from "./task_kinds.ts";
import { isTeamTask, type Task } from "./tasks.ts";

/** Index of the task that run-wide chunk `chunk` belongs to, by the first chunks of all tasks. */
export function taskOfChunk(firstChunk: ArrayLike<number>, chunk: number): number {
  let low = 0, high = firstChunk.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (firstChunk[middle]! <= chunk) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** All tasks of a run with the numbers of their chunks: chunk n of the run belongs to one task. */
export class TaskList {
  readonly tasks: readonly Task[];
  readonly grids: readonly ChunkGrid[];
  /** `firstChunk[i]` is the run-wide number of task i's first chunk; one entry more than tasks. */
  readonly firstChunk: readonly number[];
  /** How many tasks, the first ones, are done by all workers together, one after the other. */
  readonly teamCount: number;
  /** How many tasks, behind those, are done by one worker each. */
  readonly aloneCount: number;

  constructor(tasks: readonly Task[]) {
    this.tasks = tasks;
    this.grids = tasks.map(chunkGrid);
    const first = [0];
    for (const grid of this.grids) first.push(first[first.length - 1]! + chunkCount(grid));
    this.firstChunk = first;
    this.aloneCount = tasks.filter(isDoneAlone).length;
    this.teamCount = tasks.filter(isTeamTask).length - this.aloneCount;
    const inTeam = tasks.slice(0, this.teamCount),
      behind = tasks.slice(this.teamCount, this.endAlone);
    if (
      !inTeam.every((task) => isTeamTask(task) && !isDoneAlone(task)) || !behind.every(isDoneAlone)
    ) {
      throw new RangeError(
        "Cannot run tasks: those of a team must come first, those of one worker each behind them",
      );
    }
  }

  /** Index of the first task of which anybody does a chunk. */
  get endAlone(): number {
    return this.teamCount + this.aloneCount;
  }

  get chunkCount(): number {
    return this.firstChunk[this.tasks.length]!;
  }

  /** Index of the task that run-wide chunk `chunk` belongs to. */
  taskOf(chunk: number): number {
    return taskOfChunk(this.firstChunk, chunk);
  }
}
