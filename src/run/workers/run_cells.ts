/** State of a run that the main thread and the workers see, in shared memory. */

import { abortTeam, createTeamControl } from "../../linalg/team.ts";
import { foldNumbers, SLOT_LENGTH, slotsIn, type TaskNumbers } from "../layer_statistics.ts";
import type { Note } from "../note.ts";
import { inputBytesOf } from "../task_kinds.ts";
import type { TaskList } from "../task_list.ts";
import { restore, type RunJournal, type RunState } from "./checkpoints.ts";
import { CONTROL, type RunMessage } from "./protocol.ts";

/** How far a run is. */
export interface Progress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Name of the tensor that was last begun. */
  readonly current: string;
}

/** Work that was done before a run. */
export interface DoneBefore {
  readonly tasks: readonly number[];
  readonly notes: ReadonlyMap<number, Note>;
}

/** The state of one run. */
export class RunCells implements Omit<RunState, "workers"> {
  readonly list: TaskList;
  readonly slots: Float64Array<SharedArrayBuffer>;
  readonly done: Uint8Array<SharedArrayBuffer>;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #teamControl = createTeamControl();
  readonly #numbers: (TaskNumbers | undefined)[];
  /** Bytes that each task reads. */
  readonly #inputBytes: Float64Array;

  constructor(list: TaskList) {
    const { tasks, firstChunk } = list, chunks = Math.max(1, list.chunkCount);
    this.list = list;
    this.#control = new Int32Array(
      new SharedArrayBuffer(4 * (CONTROL.openChunks + tasks.length)),
    );
    tasks.forEach((_, task) => {
      this.#control[CONTROL.openChunks + task] = firstChunk[task + 1]! - firstChunk[task]!;
    });
    this.slots = new Float64Array(new SharedArrayBuffer(8 * SLOT_LENGTH * chunks));
    this.done = new Uint8Array(new SharedArrayBuffer(chunks));
    this.#numbers = tasks.map(() => undefined);
    this.#inputBytes = Float64Array.from(tasks, inputBytesOf);
  }

  /** The parts that workers get. */
  get shared(): Pick<RunMessage, "control" | "slots" | "done" | "teamControl"> {
    return {
      control: this.#control.buffer,
      slots: this.slots.buffer,
      done: this.done.buffer,
      teamControl: this.#teamControl.buffer,
    };
  }

  readonly isDone = (task: number): boolean => this.#numbers[task] !== undefined;

  /** Has all workers leave the run. */
  readonly stop = (): void => {
    Atomics.store(this.#control, CONTROL.stop, 1);
    abortTeam(this.#teamControl);
  };

  /** Whether a chunk is left that nobody has taken. */
  get hasWork(): boolean {
    return Atomics.load(this.#control, CONTROL.nextChunk) < this.list.chunkCount;
  }

  /** Takes in what a journal says was done before. */
  restore(journal: RunJournal | undefined): DoneBefore {
    if (!journal?.restored) return { tasks: [], notes: new Map() };
    const before = restore(this, journal.restored);
    this.done.forEach((isDone, chunk) => {
      if (isDone === 1) this.#control[CONTROL.openChunks + this.list.taskOf(chunk)]!--;
    });
    return before;
  }

  /** The tasks of which no chunk is open. */
  tasksWithoutWork(): number[] {
    const { tasks } = this.list;
    return tasks.flatMap((_, task) => this.#control[CONTROL.openChunks + task] === 0 ? [task] : []);
  }

  /** Returns the numbers of a task that is done, and keeps them. */
  finish(task: number): TaskNumbers {
    const { tasks, firstChunk } = this.list;
    const { [task]: first = 0, [task + 1]: end = 0 } = firstChunk;
    const own = this.slots.subarray(first * SLOT_LENGTH, end * SLOT_LENGTH);
    return this.#numbers[task] = foldNumbers(tasks[task]!.kind, slotsIn(own));
  }

  /** The numbers of all tasks, once all are done. */
  get numbers(): TaskNumbers[] {
    return this.#numbers as TaskNumbers[];
  }

  /** How far the run is. */
  progress(): Progress {
    const { tasks, firstChunk, chunkCount } = this.list;
    let doneBytes = 0, totalBytes = 0;
    tasks.forEach((_, i) => {
      const bytes = this.#inputBytes[i]!, chunks = firstChunk[i + 1]! - firstChunk[i]!;
      totalBytes += bytes;
      if (chunks === 0) return;
      doneBytes += bytes * (1 - Atomics.load(this.#control, CONTROL.openChunks + i) / chunks);
    });
    const next = Atomics.load(this.#control, CONTROL.nextChunk);
    const current = tasks.length === 0
      ? ""
      : tasks[this.list.taskOf(Math.min(next, chunkCount - 1))]!.name;
    return { doneBytes, totalBytes, current };
  }
}
