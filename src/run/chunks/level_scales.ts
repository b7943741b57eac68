/** Scales and sets of levels of rows that are put on a grid of few levels (`quant/level_grid.ts`). */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Grid, Kernels, OneSet } from "../../backend/backend.ts";
import type { LevelScheme, LevelTables } from "../../quant/level_grid.ts";
import { SCALE_MIN } from "../../quant/scheme.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

/** Rows in the space of their codes, and what is found for them. */
export interface RowsOnLevels {
  /** f32 `[rows, cols]`. */
  readonly x: Float32Array;
  /** Out: i8 `[rows, cols]`. */
  readonly codes: Int8Array;
  /** Out: f32 `[rows]`. */
  readonly scales: Float32Array;
  /** Out: u8 `[rows, cols / groupCols]`. */
  readonly choices: Uint8Array;
  readonly grid: Grid;
  readonly tables: LevelTables;
}

/** Shares of the largest value that a row of 15 levels may be clipped to. */
const CLIPS: readonly number[] = [
  1,
  0.95,
  0.9,
  0.85,
  0.8,
  0.75,
  0.7,
  0.65,
  0.6,
  0.55,
  0.5,
  0.45,
  0.4,
];

/** The smallest of them. */
export const LEAST_CLIP: number = Math.min(...CLIPS);

/** The largest level of `convrot_w4a4`. */
const INT4_MAX = 7;

/**
 * Rounds to nearest, with scales and sets of least squared error: the row reaches its largest value, and groups choose
 * among their sets; or all have one set, and the scale of the row shrinks, if `search` is true.
 */
export function roundToLevels(
  { kernels, scratch }: Pick<ChunkContext, "kernels" | "scratch">,
  scheme: LevelScheme,
  rows: RowsOnLevels,
  search: boolean,
): void {
  const { x, scales, grid, tables } = rows;
  kernels.absmax(scales, x, grid);
  if (scheme.kind === "scaled") {
    kernels.scaleFromAbsmax(scales, scales);
    return roundGroups(kernels, rows);
  }
  roundToOneSet({ kernels, scratch }, rows, oneSet(tables, search));
}

/** How rows with one set of levels are rounded: with `search` to a scale of least squared error. */
export function oneSet({ groupCols, nearest }: LevelTables, search: boolean): OneSet {
  const shares = search ? Float32Array.from(CLIPS) : null;
  return { kind: "one", groupCols, nearest, most: INT4_MAX, shares };
}

/** Rounds rows whose scales are their largest magnitudes. */
export function roundToOneSet(
  { kernels, scratch }: { readonly kernels: Kernels; readonly scratch: Scratch },
  { x, codes, scales, choices, grid }: Omit<RowsOnLevels, "tables">,
  { groupCols, nearest, most, shares }: OneSet,
): void {
  choices.fill(0);
  for (let r = 0; r < scales.length; r++) scales[r] = Math.max(scales[r]! / most, SCALE_MIN);
  if (shares !== null) {
    const mark = scratch.mark(), local = scratch.f32(shares.length);
    local.set(shares);
    kernels.searchClip(scales, x, local, grid.cols);
    scratch.release(mark);
  }
  kernels.quantizeLevels(codes, x, scales, grid, { groupCols, nearest, choices });
}

/** Groups choose among their sets: by the scale of their row, which is there. */
function roundGroups(
  kernels: Kernels,
  { x, codes, scales, choices, grid, tables: { rounding } }: RowsOnLevels,
): void {
  if (rounding === null) throw new TypeError("A grid with one set of levels has no choice of them");
  if (rounding.kind === "table") {
    kernels.roundToTable(codes, choices, x, scales, grid, rounding);
  } else kernels.roundToSteps(codes, choices, x, scales, grid, rounding);
}

/** Counts what {@link roundToLevels} takes. */
export function planRoundToLevels(
  memory: CountedMemory,
  scheme: LevelScheme,
  search: boolean,
): void {
  if (scheme.kind !== "scaled" && search) memory.within(() => memory.f32(CLIPS.length));
}
