/** Levels of a format that is no INT8, on their way into the file: packed, with the sets of their groups. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type LevelTables, levelTables, levelTableSizes } from "../../quant/level_grid.ts";
import type { Rect } from "../chunk_grid.ts";
import type { QuantizeTask, TaskLevels } from "../tasks.ts";
import type { ChunkContext } from "./chunk_context.ts";

/** Levels of some rows, and the key that identifies them. */
export interface LevelRows {
  /** i8 `[rows, cols]`. */
  readonly levels: Int8Array;
  /** u8 `[rows, cols / groupCols]`. */
  readonly choices: Uint8Array;
  readonly tables: LevelTables;
}

/** Returns the tables of `levels`, in the memory of the kernels. */
export function loadTables(
  { scratch }: Pick<ChunkContext, "scratch">,
  { scheme }: TaskLevels,
): LevelTables {
  return levelTables(scheme, (count) => scratch.u8(count));
}

/** Counts what {@link loadTables} leaves. */
export function planTables(memory: CountedMemory, { scheme }: TaskLevels): void {
  for (const bytes of levelTableSizes(scheme)) memory.u8(bytes);
}

/** Counts what {@link writeLevels} takes. */
export function planWrite(
  memory: CountedMemory,
  { scheme: { bits } }: TaskLevels,
  { rows, cols }: Pick<Rect, "rows" | "cols">,
): void {
  memory.within(() => memory.u8(rows * (cols * bits / 8)));
}

/** Packs the levels of `rect`, whole rows, and writes them where the plan put them, with their sets. */
export function writeLevels(
  context: ChunkContext,
  task: QuantizeTask & { readonly levels: TaskLevels },
  rect: Rect,
  { levels, choices, tables }: LevelRows,
): void {
  const { scratch, kernels } = context;
  const { cols } = task.source, { scheme: { bits }, choicesOffsetBytes } = task.levels;
  const rowBytes = cols * bits / 8, across = cols / tables.groupCols;
  const mark = scratch.mark();
  const packed = scratch.u8(rect.rows * rowBytes);
  kernels.packLevels(packed, levels, { ...tables, bits, cols, choices });
  context.write(packed, task.codesOffsetBytes + rect.row * rowBytes);
  if (choicesOffsetBytes !== null) context.write(choices, choicesOffsetBytes + rect.row * across);
  scratch.release(mark);
}
