/**
 * A pool that carries out tasks on this thread, one by one, and compares what they plan of memory with what
 * they take.
 */

import { closeSync, openSync } from "node:fs";
import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
  STATICS_BYTES,
} from "../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../src/backend/cpu/linalg_module.ts";
import { WasmKernels } from "../../src/backend/cpu/wasm_kernels.ts";
import { WasmLinalg } from "../../src/backend/cpu/wasm_linalg.ts";
import { compileKernels } from "../../src/backend/cpu/wasm_module.ts";
import { soloContext } from "../../src/linalg/context.ts";
import { chunkCount } from "../../src/run/chunk_grid.ts";
import { KeptInputs } from "../../src/run/chunks/kept_inputs.ts";
import type { ChunkContext, TeamContext } from "../../src/run/chunks/chunk_context.ts";
import {
  foldNumbers,
  SLOT_LENGTH,
  slotsIn,
  type TaskNumbers,
} from "../../src/run/layer_statistics.ts";
import { provideMoreKinds } from "../../src/run/loaded_kinds.ts";
import { MORE_KINDS } from "../../src/run/more_kinds.ts";
import type { Note } from "../../src/run/note.ts";
import {
  chunkGrid,
  runChunk,
  runTogether,
  scratchBytes,
  sharedBytes,
} from "../../src/run/task_kinds.ts";
import { isTeamTask, type Task } from "../../src/run/tasks.ts";
import { GpuClient } from "../../src/run/workers/gpu_client.ts";
import type { GpuAccess } from "../../src/run/gpu_requests.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { offloadedLinalg } from "../../src/run/workers/offloaded_linalg.ts";
import type { PoolKeeper } from "../../src/run/workers/pool_keeper.ts";
import type { PoolRun, WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { InputFiles } from "../../src/safetensors/input_files.ts";
import { writeExactly } from "../../src/safetensors/write_exactly.ts";
import { placeOf } from "../../src/safetensors/output_place.ts";

provideMoreKinds(MORE_KINDS);

const KERNELS = compileKernels(), LINALG = compileLinalg();

/** Bytes of one kind of memory. */
export interface Measured {
  readonly task: Task;
  readonly memory: "scratch" | "shared";
  readonly planned: number;
  readonly used: number;
}

/**
 * Carries out tasks as `WorkerPool` does; takes down what memory they planned and took. With a GPU, whose owner
 * is a thread of its own, it does what tasks have marked for it.
 */
export class MeasuredPool implements Pick<WorkerPool, "run" | "gpu" | "size" | "device"> {
  readonly gpu: GpuService | null;
  readonly size = 1;
  readonly device = "this thread";
  readonly measured: Measured[] = [];

  constructor(gpu: GpuService | null = null) {
    this.gpu = gpu;
  }

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

  #runTask(task: Task, io: TaskIo): TaskNumbers {
    const grid = chunkGrid(task), planned = scratchBytes(task, grid), together = sharedBytes(task);
    // A device may fail at any time, and what the CPU then takes must be there, too.
    const failing = this.gpu === null ? null : carryOut(task, io, FAILED);
    const found = carryOut(task, io, this.gpu);
    const most = (memory: "scratch" | "shared") =>
      Math.max(found[memory], failing === null ? 0 : failing[memory]);
    this.measured.push({ task, memory: "scratch", planned, used: most("scratch") });
    if (isTeamTask(task)) {
      this.measured.push({ task, memory: "shared", planned: together, used: most("shared") });
    }
    return found.numbers;
  }
}

type TaskIo = Pick<ChunkContext, "read" | "write" | "note">;

/** A device that has failed. */
const FAILED: GpuAccess = {
  run: () => false,
  distrust: (what) => {
    throw new Error(what);
  },
};

/** Results of a task, and the bytes of each kind of memory that it took. */
interface CarriedOut {
  readonly numbers: TaskNumbers;
  readonly scratch: number;
  readonly shared: number;
}

function carryOut(task: Task, io: TaskIo, device: GpuService | GpuAccess | null): CarriedOut {
  const grid = chunkGrid(task), count = chunkCount(grid);
  // Twice the room, so that a task that takes too much is reported with numbers.
  const sharedRoom = 2 * sharedBytes(task);
  const ownRoom = 2 * scratchBytes(task, grid) + LINALG_WORKSPACE_BYTES + 4096;
  const memory = createSharedMemory(STATICS_BYTES + sharedRoom + ownRoom);
  const shared = new Arena(memory, STATICS_BYTES, sharedRoom);
  const whole = new Arena(memory, STATICS_BYTES + sharedRoom, ownRoom);
  const kernels = new WasmKernels(KERNELS, memory), onCpu = new WasmLinalg(LINALG, whole);
  using client = device instanceof GpuService ? connect(device, memory) : null;
  const gpu = client ?? (device as GpuAccess | null);
  const linalg = device instanceof GpuService
    ? offloadedLinalg(onCpu, client!, device.placement.linalg)
    : onCpu;
  const base = whole.baseBytes + Math.ceil(whole.peakBytes / 64) * 64;
  const scratch = new Arena(memory, base, whole.baseBytes + ownRoom - base);
  const slots = new Float64Array(SLOT_LENGTH * count);
  const contextOf = (index: number): ChunkContext => ({
    ...io,
    kernels,
    linalg: soloContext(linalg, scratch),
    gpu,
    scratch,
    slot: slots.subarray(index * SLOT_LENGTH, (index + 1) * SLOT_LENGTH),
  });
  if (isTeamTask(task)) {
    let next = 0;
    const team: TeamContext = {
      ...contextOf(0),
      linalg: soloContext(linalg, scratch),
      shared,
      kept: new KeptInputs(shared),
      nextChunk: () => next === count ? null : { index: next, context: contextOf(next++) },
      chunkDone: () => {},
      contextOf,
    };
    runTogether(team, task);
  } else {
    for (let index = 0; index < count; index++) runChunk(contextOf(index), task, grid, index);
  }
  const numbers = foldNumbers(task.kind, slotsIn(slots));
  return { numbers, scratch: scratch.peakBytes, shared: shared.peakBytes };
}

function connect(gpu: GpuService, memory: WebAssembly.Memory): GpuClient & Disposable {
  const client = new GpuClient(gpu.connect(memory), { kernels: KERNELS, linalg: LINALG });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}
