/**
 * A worker's part of a run: the tasks of a team together with all others, then chunks until none is
 * left. Composes pipeline and kernels as `main.ts` does for the main thread.
 */

import { closeSync, openSync } from "node:fs";
import { later } from "../../core/later.ts";
import { plainError } from "../../core/plain_error.ts";
import { Arena } from "../../backend/cpu/arena.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { AtomicsTeam, TeamAbortedError } from "../../linalg/team.ts";
import { WasmKernels } from "../../backend/cpu/wasm_kernels.ts";
import { writeExactly } from "../../safetensors/write_exactly.ts";
import { InterruptedRead } from "../../remote/channel.ts";
import { explained } from "../../safetensors/io_error.ts";
import { InputFiles } from "../../safetensors/input_files.ts";
import { placeOf } from "../../safetensors/output_place.ts";
import { WriteRecord } from "../../safetensors/written_bytes.ts";
import type { ChunkContext, TeamContext } from "../chunks/chunk_context.ts";
import { loadMoreKinds } from "../loaded_kinds.ts";
import { nonFiniteOf, SLOT_LENGTH } from "../layer_statistics.ts";
import { lastOfTheirLike } from "../chunks/inputs_key.ts";
import { KeptInputs } from "../chunks/kept_inputs.ts";
import { LocalPairs } from "../chunks/merge_rect.ts";
import { refuseInfiniteScales, refuseInfiniteValues } from "../chunks/scale_guard.ts";
import { runChunk, runTogether } from "../task_kinds.ts";
import { WorkerTasks } from "../shared_tasks.ts";
import { isTeamTask, type Task } from "../tasks.ts";
import type { GpuClient } from "./gpu_client.ts";
import { CONTROL, type RunMessage, type WorkerMessage } from "./protocol.ts";

/** What is loaded for runs that compute with more than the kernels. */
type Devices = typeof import("./worker_devices.ts");

/** Sends to the main thread. */
type Post = (message: WorkerMessage) => void;

export { loadMoreKinds } from "../loaded_kinds.ts";

/** Does this worker's part of `run`. Failures are posted, but for that of loading code. */
export async function runAll(run: RunMessage, post: Post): Promise<void> {
  if (run.loadsMoreKinds) await loadMoreKinds();
  const isPlain = run.linalgModule === null && run.gpu === null;
  const devices = isPlain ? null : await import(later("./worker_devices.ts")) as Devices;
  const control = new Int32Array(run.control);
  const team = new AtomicsTeam(new Int32Array(run.teamControl), run.index, run.workers);
  const chunks = new Chunks(run, {
    control,
    list: new WorkerTasks(run.tasks.get("value")!),
    team,
    post,
    devices,
  });
  try {
    chunks.open();
    chunks.runTogether();
    chunks.runAlone();
    chunks.runApart();
  } catch (error) {
    // A member that throws because another one left has nothing of its own to report.
    const isFollowing = (error instanceof TeamAbortedError || error instanceof InterruptedRead) &&
      Atomics.load(control, CONTROL.stop) !== 0;
    Atomics.store(control, CONTROL.stop, 1);
    team.abort();
    if (!isFollowing) {
      post({ kind: "failed", task: chunks.task, error: plainError(error) });
    }
  } finally {
    chunks.close();
  }
  post({ kind: "finished" });
}

/** The first half of a message. */
function writing(output: string): string {
  return `Cannot write ${JSON.stringify(output)}`;
}

/** This worker's part of a run. */
class Chunks {
  /** Index of the task at hand, -1 before the first. */
  task = -1;
  readonly #run: RunMessage;
  readonly #post: Post;
  readonly #control: Int32Array;
  readonly #list: WorkerTasks;
  readonly #team: AtomicsTeam;
  readonly #kernels: WasmKernels;
  readonly #scratch: Arena;
  /** Memory for layers that this worker does alone. */
  readonly #alone: Arena;
  readonly #linalg: LinalgContext | null;
  readonly #gpu: GpuClient | null;
  readonly #inputs: InputFiles;
  readonly #outputs: number[] = [];
  readonly #chunkDone: Uint8Array;
  /** The last one of each group of layers that one worker does and that share what is made of their inputs. */
  readonly #alike: readonly number[];
  /** Layers that this worker has taken. */
  #layers: number[] = [];
  readonly #record: WriteRecord | null;

  constructor(
    run: RunMessage,
    { control, list, team, post, devices }: {
      control: Int32Array;
      list: WorkerTasks;
      team: AtomicsTeam;
      post: Post;
      devices: Devices | null;
    },
  ) {
    this.#post = post;
    this.#run = run;
    this.#control = control;
    this.#chunkDone = new Uint8Array(run.done);
    this.#record = run.recordsWrites ? new WriteRecord() : null;
    this.#list = list;
    this.#alike = lastOfTheirLike(list, list.teamCount, list.endAlone);
    this.#team = team;
    this.#inputs = new InputFiles(run.inputPaths, { shouldStop: () => this.#stops() });
    this.#kernels = new WasmKernels(run.module, run.memory);
    const ownBytes = run.arenaBytes - run.aloneBytes;
    this.#scratch = new Arena(run.memory, run.arenaBase, ownBytes);
    this.#alone = new Arena(run.memory, run.arenaBase + ownBytes, run.aloneBytes);
    this.#gpu = devices?.gpuOf(run) ?? null;
    this.#linalg = devices?.linalgOf(run, { scratch: this.#scratch, client: this.#gpu }) ?? null;
  }

  open(): void {
    const { outputs } = this.#run;
    this.#inputs.open();
    for (const { output, path } of outputs) {
      this.#outputs.push(explained(writing(output), () => openSync(path, "r+")));
    }
  }

  close(): void {
    this.#inputs.close();
    for (const fd of this.#outputs) closeSync(fd);
    this.#gpu?.close();
  }

  /** The tasks that all workers do together, one after the other. */
  runTogether(): void {
    const { memory, sharedBase, sharedBytes } = this.#run;
    const shared = new Arena(memory, sharedBase, sharedBytes), kept = new KeptInputs(shared);
    for (this.task = 0; this.task < this.#list.teamCount && !this.#stops(); this.task++) {
      // By what was done before the run, so that all members leave out the same ones.
      if (this.#run.doneTasks.has(this.task)) continue;
      const task = this.#list.at(this.task);
      if (!isTeamTask(task) || this.#linalg === null) {
        throw new TypeError(`Cannot do ${task.name} together: no linear algebra was loaded`);
      }
      const end = this.#list.firstChunk[this.task + 1]!;
      kept.begin(task);
      const context: TeamContext = {
        ...this.#contextOf(this.#list.firstChunk[this.task]!),
        linalg: { ...this.#linalg, team: this.#team },
        shared,
        kept,
        nextChunk: () => this.#takeBefore(end),
        chunkDone: ({ slot }) => this.#done(task, slot),
        contextOf: (index) => this.#contextOf(this.#list.firstChunk[this.task]! + index),
      };
      runTogether(context, task);
      this.#postWritten(this.#list.firstChunk[this.task]!);
      this.#team.barrier(); // nobody takes shared memory anew while others still use it
      // By the one whose notes of the task came before.
      if (this.#team.index === 0 && !this.#stops()) this.#postDone();
    }
    if (this.#stops()) this.#team.abort();
  }

  /** Whole layers, in no order. */
  runAlone(): void {
    const kept = new KeptInputs(this.#alone);
    for (let task = this.#nextLayer(); task !== null; task = this.#nextLayer()) {
      if (this.#run.doneTasks.has(task)) continue;
      this.task = task;
      const layer = this.#list.at(task), first = this.#list.firstChunk[task]!;
      if (!isTeamTask(layer) || this.#linalg === null) {
        throw new TypeError(`Cannot do ${layer.name}: no linear algebra was loaded`);
      }
      const count = this.#list.firstChunk[task + 1]! - first;
      const contextOf = (index: number) => this.#contextOf(first + index);
      kept.begin(layer);
      let next = 0;
      runTogether({
        ...contextOf(0),
        linalg: this.#linalg,
        shared: this.#alone,
        kept,
        nextChunk: () =>
          next === count || this.#stops() ? null : { index: next, context: contextOf(next++) },
        chunkDone: ({ slot }) => this.#done(layer, slot),
        contextOf,
      }, layer);
      this.#postWritten(first);
      if (!this.#stops()) this.#postDone();
    }
  }

  /** Returns the next layer of those that this worker has taken, or takes some; null: none is left. */
  #nextLayer(): number | null {
    if (this.#layers.length === 0) this.#takeLayers();
    return this.#stops() ? null : this.#layers.shift() ?? null;
  }

  /**
   * Takes the next layers that one worker does and nobody has: those that share what is made of their inputs, if
   * enough are left for all workers, else one.
   */
  #takeLayers(): void {
    const { firstChunk, teamCount, endAlone } = this.#list, end = firstChunk[endAlone]!;
    let next = Atomics.load(this.#control, CONTROL.nextChunk);
    while (next < end && !this.#stops()) {
      // Behind tasks of the team that were left out.
      const task = this.#list.taskOf(Math.max(next, firstChunk[teamCount]!));
      const groups = this.#alike.filter((last) => last >= task);
      const last = groups.length < this.#run.workers ? task : groups[0]!;
      const behind = firstChunk[last + 1]!;
      const found = Atomics.compareExchange(this.#control, CONTROL.nextChunk, next, behind);
      if (found === next) {
        this.#layers = Array.from({ length: last + 1 - task }, (_, i) => task + i);
        return;
      }
      next = found;
    }
  }

  /** The chunks of all other tasks, in no order. */
  runApart(): void {
    const localPairs = new LocalPairs();
    while (!this.#stops()) {
      const chunk = Atomics.add(this.#control, CONTROL.nextChunk, 1);
      if (chunk >= this.#list.chunkCount) break;
      if (Atomics.load(this.#chunkDone, chunk) === 1) continue;
      const before = this.task;
      this.task = this.#list.taskOf(chunk);
      if (this.task !== before) localPairs.clear();
      const task = this.#list.at(this.task);
      const context = { ...this.#contextOf(chunk), localPairs };
      const index = chunk - this.#list.firstChunk[this.task]!;
      runChunk(context, task, this.#list.gridOf(this.task), index);
      this.#postWritten(chunk);
      this.#done(task, context.slot);
    }
  }

  #stops(): boolean {
    return Atomics.load(this.#control, CONTROL.stop) !== 0;
  }

  /** Takes the next chunk of the present task, which ends before chunk `end` of the run. */
  #takeBefore(end: number): { index: number; context: ChunkContext } | null {
    if (this.#stops()) return null;
    const first = this.#list.firstChunk[this.task]!;
    let next = Atomics.load(this.#control, CONTROL.nextChunk);
    while (next < end) {
      // Behind tasks that were left out.
      const chunk = Math.max(next, first);
      const found = Atomics.compareExchange(this.#control, CONTROL.nextChunk, next, chunk + 1);
      if (found === next) return { index: chunk - first, context: this.#contextOf(chunk) };
      next = found;
    }
    return null;
  }

  #contextOf(chunk: number): ChunkContext {
    const task = this.task;
    return {
      kernels: this.#kernels,
      linalg: this.#linalg,
      scratch: this.#scratch,
      gpu: this.#gpu,
      note: (note) => this.#post({ kind: "note", task, note }),
      read: (file, view, position) => this.#inputs.read(file, view, position),
      write: (view, address) => this.#write(view, address),
      slot: new Float64Array(this.#run.slots, chunk * SLOT_LENGTH * 8, SLOT_LENGTH),
    };
  }

  #write(view: Uint8Array, address: number): void {
    const { outputs } = this.#run;
    refuseInfiniteScales(this.#list.at(this.task), view, address);
    const place = placeOf(outputs, address);
    const { output, startBytes } = outputs[place]!;
    const fd = this.#outputs[place]!;
    explained(writing(output), () => writeExactly(fd, view, address - startBytes));
    this.#record?.add(view, address);
  }

  #postWritten(chunk: number): void {
    if (this.#record !== null) {
      this.#post({ kind: "written", chunk, written: this.#record.take() });
    }
  }

  #done(task: Task, slot: Float64Array): void {
    if (task.kind !== "scan" && nonFiniteOf(task.kind, slot).count > 0) {
      Atomics.store(this.#control, CONTROL.stop, 1);
      this.#post({ kind: "nonFinite", task: this.task });
    } else {
      refuseInfiniteValues(task, slot);
      Atomics.store(this.#chunkDone, slot.byteOffset / (8 * SLOT_LENGTH), 1);
    }
    const isLast = Atomics.sub(this.#control, CONTROL.openChunks + this.task, 1) === 1;
    if (isLast && !isTeamTask(task)) this.#postDone();
  }

  #postDone(): void {
    this.#post({ kind: "taskDone", task: this.task });
  }
}
