/** Everything about one kind of task: its module says all of it, and `task_kinds.ts` lists the modules. */

import type { CountedMemory } from "../core/counted_memory.ts";
import type { FileRange } from "../remote/channel.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { ChunkContext, TeamContext } from "./chunks/chunk_context.ts";
import type { ChunkGrid, Rect } from "./chunk_grid.ts";
import {
  type CorrectBiasTask,
  elementBytes,
  type EncodeTask,
  type InputScaleTask,
  type MeasureTask,
  type QuantizeTask,
  type Task,
} from "./tasks.ts";

/** One chunk of a task. */
export interface Chunk {
  readonly rect: Rect;
  readonly index: number;
  readonly grid: ChunkGrid;
}

/** A kind of task. Facts that change bytes of the output are in the tasks, which fingerprints take whole. */
export interface TaskKind<T extends Task> {
  /** The matrices whose values it reads. */
  matrices(task: T): readonly MatrixSource[];
  /** The bytes it reads, without scales and calibration data. Absent: those of its matrices. */
  reads?(task: T): readonly FileRange[];
  /** Bytes it reads once: what progress counts. Absent: those of `reads`. */
  inputBytes?(task: T): number;
  /** Whether it reads some values more than once, besides groups that are streamed. Absent: no. */
  readsAgain?(task: T): boolean;
  /** Whether it needs linear algebra whatever it reads. Absent: no. */
  needsLinalg?(task: T): boolean;
  /** How it is cut into chunks. Depends on the task alone, so results do not depend on who runs it. */
  grid(task: T): ChunkGrid;
  /** Counts what it takes: its largest chunk, and what workers take to do it together. */
  planMemory(memory: PlannedMemory, task: T, grid: ChunkGrid): void;
  /** Carries out one chunk; its numbers are in `context.slot` afterwards. */
  runChunk(context: ChunkContext, task: T, chunk: Chunk): void;
  /** Carries out a whole task of a team; every worker of the run calls it. Absent: no task needs a team. */
  runTogether?(team: TeamContext, task: T): void;
}

/** Ways to quantize a layer beyond rounding 8-bit codes to nearest. */
export type QuantizeMethods = Required<
  Pick<TaskKind<QuantizeTask>, "planMemory" | "runChunk" | "runTogether">
>;

/** What is loaded when a run needs it. */
export interface MoreKinds {
  readonly methods: QuantizeMethods;
  readonly inputScale: TaskKind<InputScaleTask>;
  readonly measure: TaskKind<MeasureTask>;
  readonly correctBias: TaskKind<CorrectBiasTask>;
  readonly encode: TaskKind<EncodeTask>;
}

/** Needs of a task. */
export interface PlannedMemory {
  /** Of every worker's own. */
  readonly own: CountedMemory;
  /** Of that which all workers of a run share, while they do a task together. */
  readonly shared: CountedMemory;
}

/** Bytes of a matrix in its file, without scales. */
export function matrixBytes(matrix: MatrixSource): number {
  const { rows, cols } = matrix.transform ?? matrix;
  if (matrix.packed !== undefined) return rows * matrix.packed.rowBytes;
  return rows * cols * elementBytes(matrix.dtype);
}

/** `byteLength` bytes of a file. */
export function bytesAt(file: number, offsetBytes: number, byteLength: number): FileRange {
  return { file, begin: offsetBytes, end: offsetBytes + byteLength };
}
