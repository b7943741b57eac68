/** ldlqLevels: see `LinalgKernels.ldlqLevels`, `asm/linalg/ldlq_levels.ts`. */

import { checkLdlqLevels } from "../../../linalg/linalg_checks.ts";
import {
  type BlockSearch,
  type LdlqLevels,
  LEVELS_ABOVE,
  LEVELS_TRIED,
} from "../../../linalg/linalg_kernels.ts";
import { LEVEL_STEPS, LEVEL_TABLE } from "../../backend.ts";
import { levelIndex, levelUnits } from "../level_index.ts";

const f32 = Math.fround;

/** Last column to first: the nearest level of what is there plus what is fed back, feed the error back. */
export function ldlqLevels(args: LdlqLevels): void {
  checkLdlqLevels(args);
  const { codes, weights, feedback, panel, scales, columnGroups, levels } = args;
  const { choices, across, columnSets, nearest } = levels;
  const search = levels.search ?? null;
  for (let r = 0; r < weights.rows; r++) {
    const row = weights.data.subarray(r * weights.rowStride);
    const fed = feedback.data.subarray(r * feedback.rowStride);
    const scaleRow = Math.floor((args.firstRow + r) / args.groupRows) * args.scaleCols;
    for (let j = weights.cols - 1; j >= 0; j--) {
      const scale = scales[scaleRow + columnGroups[j]!]!;
      if (search !== null && (j + 1) % search.groupCols === 0) {
        const at = (args.firstRow + r) * across + columnSets[j]!;
        choices[at] = chooseSet(args, search, { row, fed, scale, end: j + 1 });
      }
      const set = choices[(args.firstRow + r) * across + columnSets[j]!]!;
      const at = levelIndex(levelUnits(f32(row[j]! + fed[j]!), scale));
      const level = nearest[set * LEVEL_TABLE + at]!;
      const error = f32(row[j]! - f32(level * scale));
      codes[r * args.codesRowStride + j] = level;
      row[j] = error;
      for (let i = 0; i < j; i++) {
        fed[i] = fed[i]! + f32(error * panel.data[j * panel.rowStride + i]!);
      }
    }
  }
}

/** The row that is rounded, and the columns that a set is chosen for: the group that ends before `end`. */
interface ReachedGroup {
  readonly row: Float32Array;
  readonly fed: Float32Array;
  readonly scale: number;
  readonly end: number;
}

/** The set with the least squared error of the group, rounded with each of those that are tried. */
function chooseSet(
  args: LdlqLevels,
  { groupCols, first }: BlockSearch,
  group: ReachedGroup,
): number {
  const { row, fed, scale, end } = group, { nearest } = args.levels;
  let most = 0;
  for (let j = end - groupCols; j < end; j++) {
    most = Math.max(most, Math.abs(levelUnits(f32(row[j]! + fed[j]!), scale)));
  }
  const last = nearest.length / LEVEL_TABLE - 1;
  const start = Math.min(last, first[most >> 5]! + LEVELS_ABOVE);
  let best = start, least = Infinity;
  for (let set = start; set > start - LEVELS_TRIED; set--) {
    const error = errorOfSet(args, groupCols, group, Math.max(0, set));
    if (error < least) [best, least] = [set, error];
  }
  return Math.max(0, best);
}

/** The sum of squares of what a set leaves of the group, modulo 2^32. */
function errorOfSet(
  { panel, levels: { nearest } }: LdlqLevels,
  groupCols: number,
  { row, fed, scale, end }: ReachedGroup,
  set: number,
): number {
  const from = end - groupCols, own = fed.slice(from, end);
  let sum = 0;
  for (let j = end - 1; j >= from; j--) {
    const units = levelUnits(f32(row[j]! + own[j - from]!), scale);
    const level = nearest[set * LEVEL_TABLE + levelIndex(units)]!;
    sum = (sum + Math.imul(units - LEVEL_STEPS * level, units - LEVEL_STEPS * level)) >>> 0;
    const error = f32(row[j]! - f32(level * scale));
    for (let i = from; i < j; i++) {
      own[i - from] = own[i - from]! + f32(error * panel.data[j * panel.rowStride + i]!);
    }
  }
  return sum;
}
