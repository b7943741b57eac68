/**
 * Records in a journal, from time to time, what the workers of a run have finished. Chunks are taken over as
 * soon as they are written; those of layers that workers do together, and of layers that something is
 * said of, when the layer is done, as only then all of it is in the file and has been said.
 */

import { SLOT_LENGTH } from "../layer_statistics.ts";
import { inputBytesOf, isDoneAlone } from "../task_kinds.ts";
import { TaskList } from "../task_list.ts";
import { isTeamTask, type Task } from "../tasks.ts";
import type { WrittenBytes } from "../../safetensors/written_bytes.ts";
import type { Note } from "../note.ts";

/** Chunks that are in the file, with their numbers, and what was said of tensors that are. */
export interface FinishedWork {
  /** Run-wide numbers of chunks. */
  readonly chunks: readonly number[];
  /** `SLOT_LENGTH` numbers of each, in the same order. */
  readonly slots: Float64Array;
  /** By number of the task. */
  readonly notes: ReadonlyMap<number, Note>;
  /** Written pieces, by chunk; under its first chunk for all of a task that workers do together. */
  readonly written: ReadonlyMap<number, readonly WrittenBytes[]>;
}

/** A journal of a run. */
export interface RunJournal {
  /** Work that is in the output already; null: nothing. */
  readonly restored: FinishedWork | null;
  /** Time between entries, in milliseconds. */
  readonly saveMs: number;
  /** Work that is finished when the run fails is worth an entry. */
  readonly keepsAtEnd: boolean;
  /** Makes what the workers wrote durable, then says that `finished` is; one call at a time. */
  save(finished: FinishedWork): Promise<void>;
}

/** State of a run that the journal looks at. */
export interface RunState {
  readonly list: TaskList;
  /** One byte per chunk: 1 once all of it was written. */
  readonly done: Uint8Array;
  readonly slots: Float64Array;
  /** Whether a task is done, and all of it was said. */
  readonly isDone: (task: number) => boolean;
  readonly workers: number;
}

/** Entries take no more than this part of the time. */
const MOST_OF_TIME = 1 / 4;

/** Puts what was finished before into `state`; returns the tasks that are done, and what is known of them. */
export function restore(
  { list, done, slots }: Pick<RunState, "list" | "done" | "slots">,
  { chunks, slots: numbers, notes }: Pick<FinishedWork, "chunks" | "slots" | "notes">,
): { readonly tasks: readonly number[]; readonly notes: ReadonlyMap<number, Note> } {
  const left = list.tasks.map((_, task) => list.firstChunk[task + 1]! - list.firstChunk[task]!);
  chunks.forEach((chunk, i) => {
    if (chunk >= list.chunkCount || done[chunk] === 1) return;
    done[chunk] = 1;
    slots.set(numbers.subarray(i * SLOT_LENGTH, (i + 1) * SLOT_LENGTH), chunk * SLOT_LENGTH);
    left[list.taskOf(chunk)]!--;
  });
  const tasks = list.tasks.flatMap((_, task) => left[task] === 0 ? [task] : []);
  return { tasks, notes };
}

/** Makes the entries of one run. Close it. */
export class Checkpoints {
  readonly #journal: RunJournal;
  readonly #state: RunState;
  readonly #fail: (error: unknown) => void;
  readonly #saved: Uint8Array;
  readonly #notes = new Map<number, Note>();
  readonly #written = new Map<number, { bytes: readonly WrittenBytes[]; writers: number }>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pending: Promise<void> = Promise.resolve();
  #hasSaved: boolean;
  #isClosed = false;

  /** @param fail called if an entry cannot be made. */
  constructor(journal: RunJournal, state: RunState, fail: (error: unknown) => void) {
    this.#journal = journal;
    this.#state = state;
    this.#fail = fail;
    this.#saved = state.done.slice();
    this.#hasSaved = journal.restored !== null;
    this.#schedule(journal.saveMs);
  }

  /** Records the note of a task. */
  note(task: number, note: Note): void {
    this.#notes.set(task, note);
  }

  /** Records the pieces of a chunk that a worker wrote. */
  written(chunk: number, bytes: readonly WrittenBytes[]): void {
    const before = this.#written.get(chunk) ?? { bytes: [], writers: 0 };
    this.#written.set(chunk, {
      bytes: [...before.bytes, ...bytes],
      writers: before.writers + 1,
    });
  }

  /** Waits for the last entry; makes one more, unless the run ends well before there was any. */
  async close({ failed }: { failed: boolean }): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#pending;
    if (failed ? this.#journal.keepsAtEnd : this.#hasSaved) await this.#save();
  }

  #schedule(delayMs: number): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      const started = performance.now();
      this.#pending = this.#save().then(() => {
        const tookMs = performance.now() - started;
        this.#schedule(Math.max(this.#journal.saveMs, tookMs * (1 / MOST_OF_TIME - 1)));
      }, this.#fail);
    }, delayMs);
  }

  async #save(): Promise<void> {
    const { slots } = this.#state;
    const chunks = this.#newChunks();
    if (chunks.length === 0) return;
    const numbers = new Float64Array(chunks.length * SLOT_LENGTH);
    chunks.forEach((chunk, i) => {
      const slot = slots.subarray(chunk * SLOT_LENGTH, (chunk + 1) * SLOT_LENGTH);
      numbers.set(slot, i * SLOT_LENGTH);
    });
    const notes = new Map(this.#notes);
    const written = new Map(
      chunks.flatMap((chunk) => {
        const found = this.#written.get(chunk);
        return found === undefined ? [] : [[chunk, found.bytes] as const];
      }),
    );
    await this.#journal.save({ chunks, slots: numbers, notes, written });
    this.#hasSaved = true;
    for (const chunk of chunks) this.#saved[chunk] = 1;
    for (const task of notes.keys()) this.#notes.delete(task);
    for (const chunk of written.keys()) this.#written.delete(chunk);
  }

  #newChunks(): number[] {
    const { list, done, isDone } = this.#state;
    const chunks: number[] = [];
    const hasAll = (chunk: number, writers: number) =>
      (this.#written.get(chunk)?.writers ?? 0) >= writers;
    list.tasks.forEach((task, index) => {
      if (isResumedWhole(task) && !isDone(index)) return;
      const isTeam = isTeamTask(task), writers = isDoneAlone(task) ? 1 : this.#state.workers;
      // All workers report on their own ways: the last one may come after the task is done.
      if (isTeam && !hasAll(list.firstChunk[index]!, writers)) return;
      for (let chunk = list.firstChunk[index]!; chunk < list.firstChunk[index + 1]!; chunk++) {
        if (this.#saved[chunk] === 1 || Atomics.load(done, chunk) === 0) continue;
        if (isTeam || hasAll(chunk, 1)) chunks.push(chunk);
      }
    });
    return chunks;
  }
}

/** Whether nothing of a task counts as finished before all of it is. */
function isResumedWhole(task: Task): boolean {
  return isTeamTask(task) || (task.kind === "quantize" && task.learned !== undefined);
}

/** Returns `finished` without some chunks; tasks that are only resumed as a whole go with any of theirs. */
export function withoutChunks(
  tasks: readonly Task[],
  finished: FinishedWork,
  dropped: ReadonlySet<number>,
): FinishedWork {
  const list = new TaskList(tasks);
  const touched = new Set([...dropped].map((chunk) => list.taskOf(chunk)));
  const stays = finished.chunks.map((chunk) => {
    const task = list.taskOf(chunk);
    return !dropped.has(chunk) && !(touched.has(task) && isResumedWhole(list.tasks[task]!));
  });
  const chunks = finished.chunks.filter((_, i) => stays[i]);
  const slots = new Float64Array(chunks.length * SLOT_LENGTH);
  let at = 0;
  finished.chunks.forEach((_, i) => {
    if (!stays[i]) return;
    slots.set(finished.slots.subarray(i * SLOT_LENGTH, (i + 1) * SLOT_LENGTH), at);
    at += SLOT_LENGTH;
  });
  const written = new Map(chunks.map((chunk) => [chunk, finished.written.get(chunk) ?? []]));
  return { chunks, slots, notes: finished.notes, written };
}

/** Returns the share of the bytes of `tasks` that belongs to the chunks of these numbers, 0..1. */
export function finishedShare(tasks: readonly Task[], chunks: readonly number[]): number {
  const list = new TaskList(tasks);
  const bytes = list.tasks.map(inputBytesOf);
  const finished = chunks.reduce((sum, chunk) => {
    const task = list.taskOf(chunk);
    return sum + bytes[task]! / (list.firstChunk[task + 1]! - list.firstChunk[task]!);
  }, 0);
  const all = bytes.reduce((sum, size) => sum + size, 0);
  return all === 0 ? 1 : finished / all;
}
