/**
 * The rows of a band on a grid of few levels (`quant/level_grid.ts`), with error compensation: what
 * `gptq_chunk.ts` does with its bands on INT8.
 *
 * The set of a group is the one with which rounding it, errors fed back within the group, loses least (`BlockSearch`).
 * Against choosing it by the errors of the group alone, that lowers the loss tr(E H Eᵀ) by some percent. Weighing these errors by
 * the diagonal of the Hessian, or by the pivots of its factor, by which the loss is exactly their sum, gains
 * nothing: columns of a rotated group are about as important as one another. Nor does another scale of the row
 * than that of its largest value: groups have scales of their own. `tests/quant/level_choice_test.ts` measures
 * all three.
 */

import { unitColsOf } from "./compensated_task.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import { levelGroupCols } from "../../quant/level_grid.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import { LEVELS_TRIED } from "../../linalg/linalg_kernels.ts";
import type { MatrixF32 } from "../../linalg/matrix.ts";
import type { Rect } from "../chunk_grid.ts";
import type { QuantizeTask, TaskLevels } from "../tasks.ts";
import { SLOT } from "../layer_statistics.ts";
import { guardByHeldOut, planHeldOutGuard } from "./held_out_guard.ts";
import { type ChunkContext, type Scratch, takeNumbers } from "./chunk_context.ts";
import { guardRows, planGuard, type RowMeasures } from "./guard_rows.ts";
import { loadTables, planTables, planWrite, writeLevels } from "./levels_on_file.ts";
import { decodeRect, planDecode, rawBytes, readRect } from "./load_rect.ts";
import { planRoundToLevels, roundToLevels } from "./level_scales.ts";
import { addErrors, reportNonFinite } from "./quantize_chunk.ts";
import type { PlacedRows } from "./round_rows.ts";

/** How the rows of a layer are rounded and judged. */
export interface LevelsLayer {
  readonly task: QuantizeTask & { readonly levels: TaskLevels };
  /** Rounds rows. `weights` may become errors. */
  round(context: ChunkContext, linalg: LinalgContext, rows: PlacedRows): void;
  /** How the errors of rows are measured; null: all are rounded to nearest. */
  measures(context: ChunkContext, linalg: LinalgContext): RowMeasures | null;
  /** See `largestShare`. */
  readonly share: number;
  /** Inputs that nothing was fitted to, f32 `[K, inputs]`; null: none, or all rows are rounded to nearest. */
  readonly heldOut: MatrixF32 | null;
}

/** Reads, rounds and writes the rows of `rect`. */
export function quantizeLevelsBand(
  context: ChunkContext,
  linalg: LinalgContext,
  layer: LevelsLayer,
  rect: Rect,
): void {
  const { task, share } = layer;
  const { scratch, kernels } = context;
  const { cols } = task.source;
  const grid = { rows: rect.rows, cols, groupRows: 1, groupCols: cols };
  const mark = scratch.mark();
  const tables = loadTables(context, task.levels);
  const room = roomForBand(scratch, task, rect);
  const { raw, x, xhat, codes, scales, choices, plainChoices, spare, stats } = room;
  readRect(context, raw, task.source, rect);
  const restore = () => decodeRect(context, x, raw, task.source, rect);
  restore();
  if (!reportNonFinite(context, x, rect, cols)) {
    if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    roundToLevels(
      context,
      task.levels.scheme,
      { x, codes, scales, choices, grid, tables },
      task.scaleSearch,
    );
    plainChoices.set(choices);
    const levels = { ...tables, choices, plainChoices };
    const search = spare === null ? null : { ...tables, spare };
    xhat.set(x); // rounding uses the weights up
    layer.round(context, linalg, {
      weights: x,
      codes,
      firstRow: 0,
      layerRow: rect.row,
      grid,
      scales,
      levels: { ...levels, search },
      errors: false,
    });
    const measures = layer.measures(context, linalg);
    const rounded = { weights: xhat, codes, scales, plain: scales, grid, share, levels };
    const lost = new Set(measures === null ? [] : guardRows(context, measures, rounded));
    if (layer.heldOut !== null) {
      for (const row of guardByHeldOut(context, linalg, layer.heldOut, rounded)) lost.add(row);
    }
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, { x, xhat, codes, scales, grid, stats, restore });
    writeLevels(context, task, rect, { levels: codes, choices, tables });
    context.slot.set(stats);
    context.slot[SLOT.quantize.rowsToNearest] = lost.size;
    context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * rect.row);
  }
  scratch.release(mark);
}

function roomForBand(
  scratch: Scratch,
  task: LevelsLayer["task"],
  rect: Rect,
) {
  const { source, levels: { scheme } } = task;
  const count = rect.rows * rect.cols, groups = rect.rows * (rect.cols / levelGroupCols(scheme));
  const unit = unitColsOf(task);
  return {
    raw: scratch.u8(rawBytes(source, rect)),
    x: scratch.f32(count),
    xhat: scratch.f32(count),
    codes: scratch.i8(count),
    scales: scratch.f32(rect.rows),
    choices: scratch.u8(groups),
    plainChoices: scratch.u8(groups),
    spare: unit === 1 ? null : scratch.f32(LEVELS_TRIED * unit),
    stats: takeNumbers({ scratch }),
  };
}

/**
 * Counts what {@link quantizeLevelsBand} takes.
 *
 * @param round counts rounding rows. @param measure counts measuring errors of rows.
 */
export function planLevelsBand(
  memory: CountedMemory,
  task: LevelsLayer["task"],
  rect: Rect,
  { round, measure }: Record<"round" | "measure", (rows: number) => void>,
): void {
  memory.within(() => {
    planTables(memory, task.levels);
    roomForBand(memory, task, rect);
    planDecode(memory, task.source, rect);
    planRoundToLevels(memory, task.levels.scheme, task.scaleSearch);
    round(rect.rows);
    planGuard(memory, rect, measure);
    if (task.compensation !== null) planHeldOutGuard(memory, task.compensation, rect);
    planWrite(memory, task.levels, rect);
  });
}
