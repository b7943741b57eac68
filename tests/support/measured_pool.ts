/**
 * A pool that carries out tasks on this thread, one by one, and compares what they plan of memory with what
 * they take.
 */

import { closeSync, openSync } from "node:fs";
import { Arena, createSharedMemory, STATICS_BYTES } from "../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../src/backend/cpu/linalg_module.ts";
import { WasmKernels } from "../../src/backend/cpu/wasm_kernels.ts";
import { LINALG_WORKSPACE_BYTES, WasmLinalg } from "../../src/backend/cpu/wasm_linalg.ts";
import { compileKernels } from "../../src/backend/cpu/wasm_module.ts";
import { soloContext } from "../../src/linalg/context.ts";
import { chunkCount } from "../../src/run/chunk_grid.ts";
import type { ChunkContext, TeamContext } from "../../src/run/chunks/chunk_context.ts";
import {
  foldNumbers,
  SLOT_LENGTH,
  slotsIn,
  type TaskNumbers,
} from "../../src/run/layer_statistics.ts";
import type { Note } from "../../src/run/note.ts";
import {
  chunkGrid,
  runChunk,
  runTogether,
  scratchBytes,
  sharedBytes,
} from "../../src/run/task_kinds.ts";
import { isTeamTask, type Task } from "../../src/run/tasks.ts";
import type { PoolKeeper } from "../../src/run/workers/pool_keeper.ts";
import type { PoolRun, WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { InputFiles } from "../../src/safetensors/input_files.ts";
import { writeExactly } from "../../src/safetensors/output_file.ts";
import { placeOf } from "../../src/safetensors/output_set.ts";

const KERNELS = compileKernels(), LINALG = compileLinalg();

/** Bytes of one kind of memory. */
export interface Measured {
  readonly task: Task;
  readonly memory: "scratch" | "shared";
  readonly planned: number;
  readonly used: number;
}

/** Carries out tasks as `WorkerPool` does; takes down what memory they planned and took. */
export class MeasuredPool implements Pick<WorkerPool, "run" | "gpu" | "size" | "device"> {
  readonly gpu = null;
  readonly size = 1;
  readonly device = "this thread";
  readonly measured: Measured[] = [];

  /** As what a conversion is given. */
  get pools(): PoolKeeper {
    return { take: () => this.pool } as unknown as PoolKeeper;
  }

  get pool(): WorkerPool {
    return this as unknown as WorkerPool;
  }

  run(run: PoolRun): Promise<TaskNumbers[]> {
    using inputs = new InputFiles(run.inputPaths);
    const fds = run.outputs.map(({ path }) => openSync(path, "r+"));
    const write = (view: Uint8Array, address: number) => {
      const place = placeOf(run.outputs, address);
      writeExactly(fds[place]!, view, address - run.outputs[place]!.startBytes);
    };
    const read: ChunkContext["read"] = (file, view, at) => inputs.read(file, view, at);
    const numbers = run.tasks.map((task, index) => {
      const note = (said: Note) => run.onNote?.(index, said);
      const found = this.#runTask(task, { read, write, note });
      run.onTaskDone?.(index, found);
      return found;
    });
    for (const fd of fds) closeSync(fd);
    return Promise.resolve(numbers);
  }

  #runTask(task: Task, io: Pick<ChunkContext, "read" | "write" | "note">): TaskNumbers {
    const grid = chunkGrid(task), count = chunkCount(grid);
    const planned = scratchBytes(task, grid), together = sharedBytes(task);
    // Twice the room, so that what takes too much is told with numbers.
    const sizes = [2 * together, 2 * planned + LINALG_WORKSPACE_BYTES + 4096] as const;
    const memory = createSharedMemory(STATICS_BYTES + sizes[0] + sizes[1]);
    const shared = new Arena(memory, STATICS_BYTES, sizes[0]);
    const whole = new Arena(memory, STATICS_BYTES + sizes[0], sizes[1]);
    const kernels = new WasmKernels(KERNELS, memory), linalg = new WasmLinalg(LINALG, whole);
    const base = whole.baseBytes + Math.ceil(whole.peakBytes / 64) * 64;
    const scratch = new Arena(memory, base, whole.baseBytes + sizes[1] - base);
    const slots = new Float64Array(SLOT_LENGTH * count);
    const contextOf = (index: number): ChunkContext => ({
      ...io,
      kernels,
      linalg: soloContext(linalg, scratch),
      gpu: null,
      scratch,
      slot: slots.subarray(index * SLOT_LENGTH, (index + 1) * SLOT_LENGTH),
    });
    if (isTeamTask(task)) {
      let next = 0;
      const team: TeamContext = {
        ...contextOf(0),
        linalg: soloContext(linalg, scratch),
        shared,
        nextChunk: () => next === count ? null : { index: next, context: contextOf(next++) },
        chunkDone: () => {},
        contextOf,
      };
      runTogether(team, task);
    } else {
      for (let index = 0; index < count; index++) runChunk(contextOf(index), task, grid, index);
    }
    this.measured.push({ task, memory: "scratch", planned, used: scratch.peakBytes });
    if (isTeamTask(task)) {
      this.measured.push({ task, memory: "shared", planned: together, used: shared.peakBytes });
    }
    return foldNumbers(task.kind, slotsIn(slots));
  }
}
