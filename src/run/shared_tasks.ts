/**
 * Tasks as workers get them. Of a model with many layers most tasks differ from others in their names and
 * places only. Those stand in columns that all workers share, the rest once for all such tasks; a worker
 * makes a task when it takes a chunk of it. 10^5 layers are 6 MB this way, and 110 MB as a copy for each
 * of two workers.
 */

import type { ChunkGrid } from "./chunk_grid.ts";
import { chunkGrid } from "./task_kinds.ts";
import { type TaskList, taskOfChunk } from "./task_list.ts";
import type { CastTask, CopyTask, QuantizeTask, Task } from "./tasks.ts";

/** The tasks of a run. Plain data in shared memory. */
export interface SharedTasks {
  /** Tasks that stand for all that are alike but for names and places. */
  readonly patterns: readonly Task[];
  /** By task: which pattern it has. */
  readonly patternOf: Uint32Array<SharedArrayBuffer>;
  /** {@link PLACES} numbers for each task. */
  readonly places: Float64Array<SharedArrayBuffer>;
  /** UTF-8, one behind the other; empty for tasks with a pattern of their own. */
  readonly names: Uint8Array<SharedArrayBuffer>;
  readonly nameEnds: Uint32Array<SharedArrayBuffer>;
  /** As in `TaskList`. */
  readonly firstChunk: Uint32Array<SharedArrayBuffer>;
  readonly teamCount: number;
  readonly aloneCount: number;
}

/** Offsets that tasks of one pattern have of their own, at most; behind them stands whether they are there. */
const PLACES = 4, HAS_PLACES = 3;

/** Patterns that a task is compared with: a model has a few dozen shapes. */
const MAX_COMPARED = 64;

/** What is left out where tasks are compared. */
const OWN: ReadonlySet<string> = new Set([
  ...["name", "source", "offsetBytes"],
  ...["outOffsetBytes", "codesOffsetBytes", "scalesOffsetBytes"],
]);

const DECODER = new TextDecoder("utf-8", { ignoreBOM: true });

/** Tasks that may share a pattern. */
type PlainTask = QuantizeTask | CastTask | CopyTask;

/** Finds the pattern of each task. */
class Patterns {
  readonly all: Task[] = [];
  readonly #compared: { readonly pattern: PlainTask; readonly index: number }[] = [];

  /** Returns the index of the pattern of `task`, and whether it is that of an earlier task. */
  indexOf(task: Task): { readonly index: number; readonly isKnown: boolean } {
    const found = this.#compared.find(({ pattern }) => isLike(task, pattern));
    if (found !== undefined) return { index: found.index, isKnown: true };
    const index = this.all.push(task) - 1;
    if (this.#compared.length < MAX_COMPARED && isPlain(task)) {
      this.#compared.push({ pattern: task, index });
    }
    return { index, isKnown: false };
  }
}

/**
 * Returns the first one of all tasks that differ in names and places only, which their memory and the way
 * they are cut do not depend on.
 */
export function distinctTasks(tasks: readonly Task[]): readonly Task[] {
  const known = DISTINCT.get(tasks);
  if (known !== undefined) return known;
  const patterns = new Patterns();
  for (const task of tasks) patterns.indexOf(task);
  DISTINCT.set(tasks, patterns.all);
  return patterns.all;
}

/** The distinct tasks of lists, which are asked for several times before a run. */
const DISTINCT = new WeakMap<readonly Task[], readonly Task[]>();

/** Returns the tasks of a run for its workers. */
export function shareTasks({ tasks, firstChunk, teamCount, aloneCount }: TaskList): SharedTasks {
  const patterns = new Patterns();
  const patternOf = new Uint32Array(new SharedArrayBuffer(4 * tasks.length));
  const places = new Float64Array(new SharedArrayBuffer(8 * PLACES * tasks.length));
  const nameEnds = new Uint32Array(new SharedArrayBuffer(4 * tasks.length));
  const encoder = new TextEncoder(), pieces: Uint8Array[] = [];
  let end = 0;
  tasks.forEach((task, index) => {
    const pattern = patterns.indexOf(task);
    patternOf[index] = pattern.index;
    if (pattern.isKnown) {
      places.set(placesOf(task as PlainTask), PLACES * index);
      places[PLACES * index + HAS_PLACES] = 1;
      const name = encoder.encode(task.name);
      pieces.push(name);
      end += name.length;
    }
    nameEnds[index] = end;
  });
  const names = new Uint8Array(new SharedArrayBuffer(end));
  let at = 0;
  for (const piece of pieces) {
    names.set(piece, at);
    at += piece.length;
  }
  const first = new Uint32Array(new SharedArrayBuffer(4 * firstChunk.length));
  first.set(firstChunk);
  return {
    patterns: patterns.all,
    ...{ patternOf, places, names, nameEnds, teamCount, aloneCount },
    firstChunk: first,
  };
}

/** The tasks of a run in a worker. */
export class WorkerTasks {
  readonly #shared: SharedTasks;
  /** By pattern. */
  readonly #grids: (ChunkGrid | undefined)[] = [];
  /** The task that was made last. */
  #last: { readonly index: number; readonly task: Task } | null = null;

  constructor(shared: SharedTasks) {
    this.#shared = shared;
  }

  get firstChunk(): Uint32Array {
    return this.#shared.firstChunk;
  }

  get teamCount(): number {
    return this.#shared.teamCount;
  }

  /** Index of the first task of which anybody does a chunk. */
  get endAlone(): number {
    return this.#shared.teamCount + this.#shared.aloneCount;
  }

  get chunkCount(): number {
    return this.firstChunk.at(-1)!;
  }

  /** The task with an index, the same object as long as no other is asked for. */
  at(index: number): Task {
    if (this.#last?.index !== index) this.#last = { index, task: this.#make(index) };
    return this.#last.task;
  }

  gridOf(index: number): ChunkGrid {
    // A grid depends on nothing that tasks of one pattern have of their own.
    return this.#grids[this.#shared.patternOf[index]!] ??= chunkGrid(this.at(index));
  }

  /** Index of the task that run-wide chunk `chunk` belongs to. */
  taskOf(chunk: number): number {
    return taskOfChunk(this.firstChunk, chunk);
  }

  #make(index: number): Task {
    const { patterns, patternOf, places, names, nameEnds } = this.#shared;
    const pattern = patterns[patternOf[index]!]!;
    const begin = index === 0 ? 0 : nameEnds[index - 1]!, end = nameEnds[index]!;
    const own = places.subarray(PLACES * index, PLACES * (index + 1));
    if (own[HAS_PLACES] !== 1) return pattern;
    // A copy: decoders refuse memory that is shared.
    const name = DECODER.decode(names.slice(begin, end));
    return withPlaces(pattern as PlainTask, name, own);
  }
}

function placesOf(task: PlainTask): number[] {
  switch (task.kind) {
    case "copy":
      return [task.offsetBytes, task.outOffsetBytes];
    case "cast":
      return [task.source.offsetBytes, task.outOffsetBytes];
    case "quantize":
      return [task.source.offsetBytes, task.codesOffsetBytes, task.scalesOffsetBytes];
  }
}

function withPlaces(pattern: PlainTask, name: string, places: ArrayLike<number>): Task {
  const offsetBytes = places[0]!, outOffsetBytes = places[1]!;
  switch (pattern.kind) {
    case "copy":
      return { ...pattern, name, offsetBytes, outOffsetBytes };
    case "cast":
      return { ...pattern, name, source: { ...pattern.source, name, offsetBytes }, outOffsetBytes };
    case "quantize": {
      const source = { ...pattern.source, name, offsetBytes };
      return {
        ...pattern,
        name,
        source,
        codesOffsetBytes: outOffsetBytes,
        scalesOffsetBytes: places[2]!,
      };
    }
  }
}

/** Whether a task holds nothing but numbers and text, so that another may be like it. */
function isPlain(task: Task): task is PlainTask {
  if (task.kind !== "quantize" && task.kind !== "cast" && task.kind !== "copy") return false;
  const source = task.kind === "copy" ? null : task.source;
  return [...Object.entries(task), ...Object.entries(source ?? {})].every(([key, value]) =>
    key === "source" || typeof value !== "object" || value === null
  ) && (source === null || source.name === task.name);
}

/** Whether a task differs from a plain one in its name and its places only. */
function isLike(task: Task, plain: PlainTask): boolean {
  if (task.kind !== plain.kind || !hasSameFields(task, plain)) return false;
  if (task.kind === "copy" || plain.kind === "copy") return true;
  return task.source.name === task.name && hasSameFields(task.source, plain.source);
}

function hasSameFields(a: object, b: object): boolean {
  const [left, right] = [a, b] as [Record<string, unknown>, Record<string, unknown>];
  let count = 0;
  for (const _key in right) count++;
  for (const key in left) {
    count--;
    if (!(key in right) || (!OWN.has(key) && !Object.is(left[key], right[key]))) return false;
  }
  return count === 0;
}
