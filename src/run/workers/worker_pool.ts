/**
 * Runs tasks on worker threads. The workers share one compiled kernel module and one WebAssembly memory,
 * in which each has an arena of its own; they take chunks from an atomic counter, so no one waits.
 */

import { aloneBytesFor, arenaBytesFor, teamBytesFor } from "./run_bytes.ts";
import { createSharedMemory, STATICS_BYTES } from "../../backend/cpu/arena.ts";
import { compileKernels } from "../../backend/cpu/wasm_module.ts";
import { kernelHash } from "../../backend/cpu/kernel_hash.ts";
import { compileLinalg } from "../../backend/cpu/linalg_module.ts";
import { InterruptedError } from "../../core/errors.ts";
import type { InputPath } from "../../remote/input_path.ts";
import { loadKindsFor, needsMoreKinds } from "../loaded_kinds.ts";
import { needsLinalg } from "../task_kinds.ts";
import type { OutputPlace } from "../../safetensors/output_place.ts";
import type { TaskNumbers } from "../layer_statistics.ts";
import { shareTasks } from "../shared_tasks.ts";
import { TaskList } from "../task_list.ts";
import type { Task } from "../tasks.ts";
import { announceReads } from "./announce_reads.ts";
import type { GpuService } from "./gpu_service.ts";
import { Checkpoints, type RunJournal, type RunState } from "./checkpoints.ts";
import type { WrittenBytes } from "../../safetensors/written_bytes.ts";
import type { Note } from "../note.ts";
import { type EarlyWorkers, type RunThread, startRunThread } from "./run_thread.ts";
import { threadError } from "./start_worker.ts";
import { atTensor, reportedError } from "./error_classes.ts";
import { type DoneBefore, type Progress, RunCells } from "./run_cells.ts";
import { type RunMessage, unsearched, type WorkerMessage, type WorkFailure } from "./protocol.ts";

export type { Progress };

/** How often progress is reported. */
const PROGRESS_MS = 100;

/** How long the start of more workers waits for the first layer. */
const FIRST_LAYER_MS = 30;

/** One run. */
export interface PoolRun {
  readonly inputPaths: readonly InputPath[];
  /** The files that are written, by address; none if nothing is. */
  readonly outputs: readonly OutputPlace[];
  readonly tasks: readonly Task[];
  readonly signal?: AbortSignal | undefined;
  /** Called on the main thread when the last chunk of a task is done, with the numbers of all chunks. */
  readonly onTaskDone?: ((task: number, numbers: TaskNumbers) => void) | undefined;
  /** Called with what a worker says of a tensor, before its task is done. */
  readonly onNote?: ((task: number, note: Note) => void) | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Finished work, and the place to record more; absent: nothing, nowhere. */
  readonly journal?: RunJournal | undefined;
}

/** A tensor that is to be quantized or cast holds values that cannot be. */
export class NonFiniteError extends Error {
  override readonly name = "NonFiniteError";
  /** Index of the task. */
  readonly task: number;
  constructor(task: number, name: string) {
    super(
      `Cannot quantize tensor ${JSON.stringify(name)}: it holds NaN, infinite or too large values`,
    );
    this.task = task;
  }
}

/** Worker threads that are started once and serve several runs. Close it, or the process stays. */
export class WorkerPool {
  readonly #module = compileKernels();
  readonly #workerUrl: URL;
  /** Those that have been started, by their numbers. */
  readonly #workers: (RunThread | undefined)[] = [];
  readonly size: number;
  /** Device of the parts that tasks have marked for it; null: the CPU does all. */
  readonly gpu: GpuService | null;

  /**
   * @param workerUrl URL of `src/run/workers/worker.ts`, built in the main module.
   * @param count how many workers, 1 or more.
   * @param gpu what does what tasks have marked for it; the caller closes it. Null: the CPU does all.
   * @param early threads that were started before; they become workers.
   */
  constructor(
    workerUrl: URL,
    count: number,
    gpu: GpuService | null = null,
    early: EarlyWorkers | null = null,
  ) {
    this.gpu = gpu;
    this.#workerUrl = workerUrl;
    this.size = count;
    this.#workers.push(...early?.take(count) ?? []);
  }

  /** Returns a worker, started when it is first needed: this thread waits for a thread that begins. */
  #worker(index: number): RunThread {
    return this.#workers[index] ??= startRunThread(this.#workerUrl);
  }

  /** The device: the kernels, and the GPU if there is one. */
  get device(): string {
    return `${this.gpu?.adapter.name ?? "the CPU"} with kernels ${kernelHash()}`;
  }

  /**
   * Runs all tasks and returns their numbers.
   *
   * @throws InterruptedError if `signal` aborts; WrongResultError if a GPU computed something wrong,
   * so that nothing of the run may be used; NonFiniteError if a value cannot be quantized;
   * Error if reading or writing fails. All workers have left the run by then.
   */
  async run(run: PoolRun): Promise<TaskNumbers[]> {
    await loadKindsFor(run.tasks);
    const list = new TaskList(run.tasks);
    if (list.chunkCount > 0x7fff0000) throw new RangeError("Cannot run: too many chunks");
    const sizes = { arenaBytes: arenaBytesFor(run.tasks), teamBytes: teamBytesFor(run.tasks) };
    const memory = runMemory(this.size, sizes), cells = new RunCells(list);
    const before = cells.restore(run.journal);
    let saveError: unknown = null;
    const checkpoints = run.journal === undefined
      ? null
      : new Checkpoints(run.journal, stateOf(cells, this.size), (error) => {
        saveError ??= error;
        cells.stop();
      });
    let failed = true;
    run.signal?.addEventListener("abort", cells.stop);
    const ticker = run.onProgress === undefined
      ? undefined
      : setInterval(() => run.onProgress!(cells.progress()), PROGRESS_MS);
    try {
      const listeners = listenersOf(run, cells, checkpoints);
      reportDoneBefore(run, cells, before);
      if (run.signal?.aborted) cells.stop();
      announceReads(run.inputPaths, list, (chunk) => cells.done[chunk] === 1);
      await this.#runWorkers(listeners, cells, this.#messages(run, { cells, memory, before }));
      if (run.signal?.aborted) throw new InterruptedError();
      if (saveError !== null) throw saveError;
      failed = false;
      run.onProgress?.(cells.progress());
      return cells.numbers;
    } finally {
      clearInterval(ticker);
      run.signal?.removeEventListener("abort", cells.stop);
      // A run that failed reports why; work without an entry then is done once more.
      if (failed) await checkpoints?.close({ failed }).catch(() => {});
      else await checkpoints?.close({ failed });
    }
  }

  /** Returns what makes the message of a worker. */
  #messages(
    run: PoolRun,
    { cells, memory, before }: {
      readonly cells: RunCells;
      readonly memory: RunMemory;
      readonly before: DoneBefore;
    },
  ): (index: number) => RunMessage {
    const linalgModule = run.tasks.some(needsLinalg) ? compileLinalg() : null;
    const loadsMoreKinds = run.tasks.some(needsMoreKinds);
    const doneTasks = new Set(before.tasks), aloneBytes = aloneBytesFor(run.tasks);
    const tasks = unsearched(shareTasks(cells.list));
    return (index) => ({
      module: this.#module,
      linalgModule,
      loadsMoreKinds,
      ...memory.partOf(index),
      aloneBytes,
      index,
      workers: this.size,
      gpu: this.gpu?.connect(memory.memory) ?? null,
      inputPaths: run.inputPaths,
      outputs: run.outputs,
      tasks,
      ...cells.shared,
      doneTasks,
      recordsWrites: run.journal !== undefined,
    });
  }

  /** Waits until every worker has left the run; then throws the first failure. */
  async #runWorkers(
    listeners: RunListeners,
    cells: RunCells,
    messageFor: (index: number) => RunMessage,
  ): Promise<void> {
    const { list, stop } = cells;
    let failure: Error | undefined, begun = (): void => {};
    // This thread stands still while another is started: not before the first layer is reported, if that is soon.
    const hasBegun = new Promise<void>((resolve) => begun = resolve);
    const timer = setTimeout(begun, FIRST_LAYER_MS);
    const fail = (error: Error): void => {
      stop();
      failure ??= error;
    };
    const take = (report: WorkerMessage): void => {
      // A chunk that was written may be the end of a layer, which the next report says.
      if (report.kind !== "written") begun();
      if (report.kind === "note") listeners.note(report.task, report.note);
      else if (report.kind === "written") listeners.written(report.chunk, report.written);
      else if (report.kind === "taskDone") listeners.finish(report.task);
      else if (report.kind === "failed") fail(failureOf(report, list));
      else if (report.kind === "nonFinite") {
        failure ??= new NonFiniteError(report.task, list.tasks[report.task]!.name);
      }
    };
    // Members of a team wait for one another.
    const isTeam = list.teamCount > 0, isReady = this.#workers[0] !== undefined;
    const runOne = async (index: number): Promise<void> => {
      if (index > 0 && !isTeam && this.#workers[index] === undefined) {
        if (index >= list.chunkCount) return;
        if (isReady) await hasBegun;
        if (failure !== undefined || !cells.hasWork) return;
      }
      await this.#runWorker(index, { message: messageFor(index), take, fail });
    };
    try {
      await Promise.all(Array.from({ length: this.size }, (_, index) => runOne(index)));
    } finally {
      clearTimeout(timer);
    }
    if (failure !== undefined) throw failure;
  }

  /** Waits until a worker has left the run. */
  #runWorker(
    index: number,
    { message, take, fail }: {
      readonly message: RunMessage;
      readonly take: (report: WorkerMessage) => void;
      readonly fail: (error: Error) => void;
    },
  ): Promise<void> {
    const worker = this.#worker(index);
    return new Promise((resolve) => {
      worker.listen((report) => {
        take(report);
        if (report.kind === "finished") resolve();
      }, (error) => {
        fail(threadError("Cannot run a worker", error));
        resolve();
      });
      worker.send(message, message.gpu === null ? [] : [message.gpu.port]);
    });
  }

  /** Ends the workers. */
  close(): void {
    for (const worker of this.#workers) worker?.terminate();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The failure that a worker reported, of its class, with the tensor that it was at. */
function failureOf({ task, error }: WorkFailure, list: TaskList): Error {
  const failure = reportedError(error);
  return task < 0 ? failure : atTensor(failure, list.tasks[task]!.name);
}

/** The memory of a run, and which part of it is whose. */
interface RunMemory {
  readonly memory: WebAssembly.Memory;
  /** The part of worker `index`, and that of all. */
  partOf(
    index: number,
  ): Pick<RunMessage, "memory" | "arenaBase" | "arenaBytes" | "sharedBase" | "sharedBytes">;
}

/** Makes the memory of a run: what all workers share, then an arena for each. */
function runMemory(
  workers: number,
  { arenaBytes, teamBytes }: { readonly arenaBytes: number; readonly teamBytes: number },
): RunMemory {
  const firstArena = STATICS_BYTES + teamBytes;
  const memory = createSharedMemory(firstArena + arenaBytes * workers);
  return {
    memory,
    partOf: (index) => ({
      memory,
      arenaBase: firstArena + index * arenaBytes,
      arenaBytes,
      sharedBase: STATICS_BYTES,
      sharedBytes: teamBytes,
    }),
  };
}

/** Listeners to the workers of a run. */
interface RunListeners {
  finish(task: number): void;
  note(task: number, note: Note): void;
  written(chunk: number, written: readonly WrittenBytes[]): void;
}

function listenersOf(
  run: PoolRun,
  cells: RunCells,
  checkpoints: Checkpoints | null,
): RunListeners {
  return {
    finish(task) {
      const numbers = cells.finish(task);
      run.onTaskDone?.(task, numbers);
    },
    note(task, said) {
      run.onNote?.(task, said);
      checkpoints?.note(task, said);
    },
    written: (chunk, bytes) => checkpoints?.written(chunk, bytes),
  };
}

/** An empty tensor has no chunk, and what was done before is left out: no worker would report them. */
function reportDoneBefore(run: PoolRun, cells: RunCells, { notes }: DoneBefore): void {
  for (const task of cells.tasksWithoutWork()) {
    const note = notes.get(task);
    const numbers = cells.finish(task);
    if (note !== undefined) run.onNote?.(task, note);
    run.onTaskDone?.(task, numbers);
  }
}

function stateOf({ list, done, slots, isDone }: RunCells, workers: number): RunState {
  return { list, done, slots, isDone, workers };
}
