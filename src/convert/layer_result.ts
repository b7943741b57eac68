/** The report of a conversion on one layer. */

import type { LearnedReport } from "../quant/learned/report.ts";
import {
  type LayerErrors,
  layerErrors,
  numbersOf,
  type TaskNumbers,
} from "../run/layer_statistics.ts";
import type { Task } from "../run/tasks.ts";
import { type CompensatedRows, compensatedRows } from "../run/layer_notes.ts";
import type { Note } from "../run/note.ts";
import type { BiasChange } from "./finish_layers.ts";
import type { OutputErrors } from "./output_errors.ts";

/** Result of one quantized layer. */
export interface LayerResult {
  /** Name of the weight. */
  readonly name: string;
  /** Its shape, outermost first. */
  readonly shape: readonly number[];
  /** Errors of what is in the file against its source. */
  readonly errors: LayerErrors;
  /** The numbers behind them. */
  readonly stats: Float64Array;
  /** Note of the method: damping, or why it fell back; null for rounding to nearest. */
  readonly note: Note | null;
  /** Number of rows that the method did not help; null if no errors were compensated. */
  readonly compensated: CompensatedRows | null;
  /** Errors of its outputs; null if they were not measured. */
  readonly output: OutputErrors | null;
  /** Change of its bias; null if nothing real is known of its inputs, or it has none. */
  readonly bias: BiasChange | null;
  /** Report of learned rounding; null if codes were not learned. */
  readonly learned: LearnedReport | null;
}

/** Returns what a task did with its layer; null if it quantized none. */
export function layerResult(
  task: Task,
  numbers: TaskNumbers,
  said: Note | null,
): LayerResult | null {
  if (task.kind !== "quantize") return null;
  const { rows, cols } = task.source;
  const compensated = compensatedRows(task, said, numbersOf(task.kind, numbers));
  return {
    name: task.name,
    shape: [rows, cols],
    errors: layerErrors(numbers),
    stats: numbers,
    note: said,
    compensated,
    output: null,
    bias: null,
    learned: said?.kind === "learned" ? said.report : null,
  };
}
