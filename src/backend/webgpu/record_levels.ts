/** Rounding to few levels (`quant/level_grid.ts`) of values that lie on the device, recorded into a batch. */

import type { Grid, LevelRounding } from "../backend.ts";
import type { Batch, Slot } from "./batch.ts";
import * as shaders from "./shaders.ts";

/** Values that one workgroup of most kernels takes. */
const WORKGROUP = 256;

/** Groups of columns that a workgroup finds sets for: four per invocation. */
const GROUPS = 4 * 64;

/** Tables of sets of levels on the device. */
export interface LevelSlots {
  readonly nearest: Slot;
  /** Columns of a row that share a set. */
  readonly groupCols: number;
}

/** Records `quantizeLevels`. `codes` i8 and `choices` u8, four in a word. */
export function recordQuantizeLevels(
  batch: Batch,
  codes: Slot,
  { x, scales, choices, grid, nearest, groupCols: setCols }: LevelSlots & {
    readonly x: Slot;
    readonly scales: Slot;
    readonly choices: Slot;
    readonly grid: Grid;
  },
): void {
  const { rows, cols, groupRows, groupCols } = grid;
  const params = { count: rows * cols, cols, groupRows, groupCols, setCols };
  const slots = [codes, x, scales, choices, nearest];
  const workgroups = Math.ceil(params.count / (4 * WORKGROUP));
  batch.dispatch(shaders.quantizeLevels, slots, params, workgroups);
}

/** Records `searchLevels`. `choices` u8, four in a word. */
export function recordSearchLevels(
  batch: Batch,
  choices: Slot,
  { x, scales, grid, nearest, first, groupCols: setCols, candidates }: LevelSlots & {
    readonly x: Slot;
    readonly scales: Slot;
    readonly grid: Grid;
    readonly first: Slot;
    readonly candidates: number;
  },
): void {
  const params = { ...groupParams(grid, setCols), candidates };
  const slots = [choices, x, scales, nearest, first];
  batch.dispatch(shaders.searchLevels, slots, params, Math.ceil(params.groups / GROUPS));
}

/** Records `searchClip`, in place. */
export function recordSearchClip(
  batch: Batch,
  scales: Slot,
  { x, rows, cols, shares }: {
    readonly x: Slot;
    readonly rows: number;
    readonly cols: number;
    readonly shares: Float32Array;
  },
): void {
  const params = { rows, cols, candidates: shares.length, zero: 0 };
  const slots = [scales, x, batch.input("shares", shares)];
  batch.dispatch(shaders.searchClip, slots, params, rows);
}

/** The tables of `LevelRounding` that a device reads: errors are not looked up there. */
export type GpuRounding = Pick<LevelRounding, "kind" | "groupCols" | "steps" | "first">;

/** Records `roundToTable` or `roundToSteps`. `codes` i8 and `choices` u8, four in a word. */
export function recordRoundToLevels(
  batch: Batch,
  { codes, choices }: { readonly codes: Slot; readonly choices: Slot },
  { x, scales, grid, rounding: { kind, groupCols, steps, first } }: {
    readonly x: Slot;
    readonly scales: Slot;
    readonly grid: Grid;
    readonly rounding: GpuRounding;
  },
): void {
  const params = groupParams(grid, groupCols);
  const tables = [batch.input("steps", steps), batch.input("first sets", first)];
  const shader = kind === "table" ? shaders.roundToTable : shaders.roundToSteps;
  const slots = [codes, choices, x, scales, ...tables];
  batch.dispatch(shader, slots, params, Math.ceil(params.groups / GROUPS));
}

function groupParams({ rows, cols, groupRows, groupCols }: Grid, setCols: number) {
  return { groups: rows * (cols / setCols), cols, groupRows, groupCols, setCols };
}
