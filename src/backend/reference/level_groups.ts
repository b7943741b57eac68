/** Groups of columns that choose among sets of levels. */

import { type Grid, LEVEL_CANDIDATES, LEVEL_STEPS } from "../backend.ts";
import { groupOf } from "./groups.ts";
import { levelUnits } from "./level_index.ts";

/** The values of every group of `setCols` columns in units of 1 / LEVEL_STEPS of their scale. */
export function unitsOfGroups(
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
  setCols: number,
): number[][] {
  return Array.from(
    { length: x.length / setCols },
    (_, g) =>
      Array.from({ length: setCols }, (_, k) => {
        const at = g * setCols + k, row = Math.floor(at / grid.cols);
        return levelUnits(x[at]!, scales[groupOf(grid, row, at % grid.cols)]!);
      }),
  );
}

/** Of the set `start` and those before it the first one of least error. */
export function bestSet(start: number, errorOf: (set: number) => number): number {
  let best = start, least = Infinity;
  for (let k = 0; k < LEVEL_CANDIDATES; k++) {
    const set = Math.max(0, start - k), error = errorOf(set);
    if (error >= least) continue;
    least = error;
    best = set;
  }
  return best;
}

/** The level nearest to `units`, of ascending ones; of two as near the lower one. */
export function nearestLevel(units: number, levels: ArrayLike<number>): number {
  let best = levels[0]!;
  for (let i = 1; i < levels.length; i++) {
    const level = levels[i]!;
    if (Math.abs(units - LEVEL_STEPS * level) < Math.abs(units - LEVEL_STEPS * best)) best = level;
  }
  return best;
}
