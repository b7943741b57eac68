/**
 * The kinds of tasks: one module each. A new kind is a module, its type in `tasks.ts`, and a line here, or in
 * `more_kinds.ts` if a run of the default mode has no such task.
 */

import { CountedMemory } from "../core/counted_memory.ts";
import type { FileRange } from "../remote/channel.ts";
import type { ChunkGrid } from "./chunk_grid.ts";
import { chunkCount, chunkRect } from "./chunk_grid.ts";
import { CAST } from "./chunks/cast_chunk.ts";
import type { ChunkContext, TeamContext } from "./chunks/chunk_context.ts";
import { COLUMN_MAX } from "./chunks/column_max_chunk.ts";
import { COMPARE_BYTES } from "./chunks/compare_bytes_chunk.ts";
import { COMPARE } from "./chunks/compare_chunk.ts";
import { COPY } from "./chunks/copy_chunk.ts";
import { QUANTIZE } from "./chunks/quantize_kind.ts";
import { SCAN } from "./chunks/scan_chunk.ts";
import { moreKinds } from "./loaded_kinds.ts";
import {
  bytesAt,
  matrixBytes,
  type MoreKinds,
  type PlannedMemory,
  type TaskKind,
} from "./task_kind.ts";
import { isTeamTask, type Task, type TeamTask } from "./tasks.ts";

/** Kinds that are always there; all others are in {@link MoreKinds}. */
const KINDS: {
  readonly [K in Exclude<Task["kind"], keyof MoreKinds>]: TaskKind<
    Extract<Task, { readonly kind: K }>
  >;
} = {
  copy: COPY,
  quantize: QUANTIZE,
  cast: CAST,
  columnMax: COLUMN_MAX,
  scan: SCAN,
  compare: COMPARE,
  compareBytes: COMPARE_BYTES,
};

function kindOf(task: Task): TaskKind<Task> {
  switch (task.kind) {
    case "inputScale":
    case "measure":
    case "correctBias":
    case "encode":
      return moreKinds()[task.kind];
    default:
      return KINDS[task.kind];
  }
}

/** Returns the bytes that `task` reads, by the numbers of files in the run; without scales and calibration data. */
export function readsOf(task: Task): readonly FileRange[] {
  const kind = kindOf(task);
  return kind.reads?.(task) ??
    kind.matrices(task).map((matrix) =>
      bytesAt(matrix.file, matrix.offsetBytes, matrixBytes(matrix))
    );
}

/** Bytes a task reads once: what progress counts. */
export function inputBytesOf(task: Task): number {
  return kindOf(task).inputBytes?.(task) ??
    readsOf(task).reduce((sum, { begin, end }) => sum + end - begin, 0);
}

/** Whether `task` reads some values more than once, besides groups that are streamed. */
export function readsValuesAgain(task: Task): boolean {
  return kindOf(task).readsAgain?.(task) ?? false;
}

/** Whether `task` needs more than the kernels. */
export function needsLinalg(task: Task): boolean {
  const kind = kindOf(task);
  return (kind.needsLinalg?.(task) ?? false) ||
    kind.matrices(task).some(({ deltas, transform }) => deltas ?? transform);
}

/** Returns how `task` is cut into chunks. */
export function chunkGrid(task: Task): ChunkGrid {
  return kindOf(task).grid(task);
}

/** Bytes of scratch memory that the largest chunk of `task` takes. */
export function scratchBytes(task: Task, grid: ChunkGrid): number {
  return memoryOf(task, grid).own.peakBytes;
}

/** Bytes of memory that all workers share while they do `task` together; 0 if each works alone. */
export function sharedBytes(task: Task): number {
  return isTeamTask(task) ? memoryOf(task, chunkGrid(task)).shared.peakBytes : 0;
}

/** Most memory that a layer takes besides its bands if one worker does all of it. */
const ALONE_BYTES = 32 << 20;

/**
 * Whether one worker does the whole of a compensated layer, as others do at the same time: for small layers
 * barriers take longer than the work between them. Its results are those of a team.
 */
export function isDoneAlone(task: Task): boolean {
  if (task.kind !== "quantize" || task.compensation === null) return false;
  const isPlain = task.transform === undefined && task.learned === undefined;
  return isPlain && task.onGpu === undefined && sharedBytes(task) <= ALONE_BYTES;
}

function memoryOf(task: Task, grid: ChunkGrid): PlannedMemory {
  const memory = { own: new CountedMemory(), shared: new CountedMemory() };
  // A tensor without elements has no chunk.
  if (chunkCount(grid) > 0) kindOf(task).planMemory(memory, task, grid);
  return memory;
}

/** Carries out chunk `index` of `task`; its numbers are in `context.slot` afterwards. */
export function runChunk(context: ChunkContext, task: Task, grid: ChunkGrid, index: number): void {
  const mark = context.scratch.mark();
  kindOf(task).runChunk(context, task, { rect: chunkRect(grid, index), index, grid });
  context.scratch.release(mark);
}

/** Carries out a whole task. Every worker of the run calls it, for the same task. */
export function runTogether(team: TeamContext, task: TeamTask): void {
  const { runTogether } = kindOf(task);
  if (runTogether === undefined) throw new TypeError(`Cannot do ${task.name} together`);
  runTogether(team, task);
}
