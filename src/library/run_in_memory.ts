/**
 * Carries out the work of a conversion on arrays instead of files: one layer, on the calling thread, by the
 * code that the workers run.
 */

import {
  foldNumbers,
  type LayerErrors,
  layerErrors,
  nonFiniteOf,
  numbersOf,
  SLOT_LENGTH,
  slotsIn,
} from "../run/layer_statistics.ts";
import { type CompensatedRows, compensatedRows, describeNote } from "../run/layer_notes.ts";
import type { Note } from "../run/note.ts";
import type { LearnedReport } from "../quant/learned/report.ts";
import { soloContext } from "../linalg/context.ts";
import type { ChunkContext, TeamContext } from "../run/chunks/chunk_context.ts";
import { bytesTaken } from "../core/counted_memory.ts";
import { KeptInputs } from "../run/chunks/kept_inputs.ts";
import { decodeRect, planDecodedRect, readRect, roomForRect } from "../run/chunks/load_rect.ts";
import { provideMoreKinds } from "../run/loaded_kinds.ts";
import { MORE_KINDS } from "../run/more_kinds.ts";
import { runChunk, runTogether, scratchBytes, sharedBytes } from "../run/task_kinds.ts";
import { CHUNK_ELEMENTS, chunkCount, type ChunkGrid, chunkRect } from "../run/chunk_grid.ts";
import { chunkGrid } from "../run/task_kinds.ts";
import { isTeamTask, type QuantizeTask } from "../run/tasks.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { type OwnMemory, withOwnMemory } from "./own_memory.ts";

// Functions of the library return at once: they cannot wait for code.
provideMoreKinds(MORE_KINDS);

/** Result of a layer. */
export interface InMemoryResult {
  /** The output, as the task placed codes and scales in it. */
  readonly output: Uint8Array<ArrayBuffer>;
  readonly errors: LayerErrors;
  /** Note of the method; null for rounding to nearest. */
  readonly note: string | null;
  /** Number of rows that it did not help; null if no errors were compensated. */
  readonly compensated: CompensatedRows | null;
  /** Report of learned rounding; null if codes were not learned. */
  readonly learned: LearnedReport | null;
}

/** Files of a run, by number, as their bytes. */
export type Files = readonly Uint8Array[];

/**
 * Quantizes the layer of `task`.
 *
 * @param files what the task reads from. @param outputBytes size of what it writes to.
 * @throws RangeError if the layer holds NaN or infinity, or does not fit a WebAssembly memory; FormatError
 * if what it is compensated by is no statistic.
 */
export function quantizeInMemory(
  task: QuantizeTask,
  { files, outputBytes }: { files: Files; outputBytes: number },
): InMemoryResult {
  const grid = chunkGrid(task), count = chunkCount(grid);
  const output = new Uint8Array(outputBytes);
  const slots = new Float64Array(SLOT_LENGTH * count);
  let note = null as Note | null;
  withOwnMemory(scratchBytes(task, grid), (own) => {
    const contextOf = (index: number): ChunkContext => ({
      ...contextFor(own, files),
      write: (view, position) => output.set(view, position),
      note: (said) => {
        note = said;
      },
      slot: slots.subarray(index * SLOT_LENGTH, (index + 1) * SLOT_LENGTH),
    });
    if (isTeamTask(task)) {
      let next = 0;
      const linalg = soloContext(own.linalg, own.memory);
      const team: TeamContext = {
        ...contextOf(0),
        linalg,
        shared: own.shared,
        kept: new KeptInputs(own.shared),
        nextChunk: () => next === count ? null : { index: next, context: contextOf(next++) },
        chunkDone: () => {},
        contextOf,
      };
      runTogether(team, task);
    } else {
      for (let index = 0; index < count; index++) runChunk(contextOf(index), task, grid, index);
    }
  }, sharedBytes(task));
  const numbers = foldNumbers(task.kind, slotsIn(slots));
  const bad = nonFiniteOf(task.kind, numbers);
  if (bad.count > 0) {
    throw new RangeError(
      `Cannot quantize ${
        JSON.stringify(task.name)
      }: ${bad.count} values are not finite, the first ` +
        `at index ${bad.first}`,
    );
  }
  const compensated = compensatedRows(task, note, numbersOf(task.kind, numbers));
  return {
    output,
    errors: layerErrors(numbers),
    note: describeNote(note, compensated),
    compensated,
    learned: note?.kind === "learned" ? note.report : null,
  };
}

/** Returns the values of a stored matrix in original space, f32 `[rows, cols]`. */
export function decodeInMemory(matrix: MatrixSource, files: Files): Float32Array {
  const values = new Float32Array(matrix.rows * matrix.cols);
  const grid = wholeRows(matrix);
  const bytes = bytesTaken((memory) => planDecodedRect(memory, matrix, grid));
  withOwnMemory(bytes, (own) => {
    for (let index = 0; index < chunkCount(grid); index++) {
      const rect = chunkRect(grid, index), mark = own.memory.mark();
      const context: ChunkContext = {
        ...contextFor(own, files),
        write: () => {},
        note: () => {},
        slot: new Float64Array(SLOT_LENGTH),
      };
      const { raw, x } = roomForRect(own.memory, matrix, rect);
      readRect(context, raw, matrix, rect);
      decodeRect(context, x, raw, matrix, rect);
      values.set(x, rect.row * rect.cols);
      own.memory.release(mark);
    }
  });
  return values;
}

function wholeRows({ rows, cols, transform }: MatrixSource): ChunkGrid {
  const step = transform === undefined ? Math.max(1, Math.floor(CHUNK_ELEMENTS / cols)) : rows;
  return { rows, cols, rowStep: Math.min(rows, step), colStep: cols, streamed: false };
}

function contextFor(
  { kernels, linalg, memory }: OwnMemory,
  files: Files,
): Pick<ChunkContext, "kernels" | "linalg" | "gpu" | "scratch" | "read"> {
  return {
    kernels,
    linalg: soloContext(linalg, memory),
    gpu: null,
    scratch: memory,
    read: (file, view, position) => {
      view.set(files[file]!.subarray(position, position + view.byteLength));
    },
  };
}
