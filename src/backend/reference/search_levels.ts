/** searchLevels: see `Kernels.searchLevels`, `asm/search_levels.ts`. */

import { type Grid, LEVEL_STEPS, LEVEL_TABLE, type LevelSearch } from "../backend.ts";
import { checkGrid, checkLevelSearch } from "../kernel_checks.ts";
import { groupOf } from "./groups.ts";
import { levelIndex, levelUnits } from "./level_index.ts";

/** choices[g] = the candidate set of least squared error of group g. */
export function searchLevels(
  choices: Uint8Array,
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
  search: LevelSearch,
): void {
  checkGrid("searchLevels", grid, { x }, { scales });
  checkLevelSearch("searchLevels", grid, { ...search, choices });
  const { groupCols, nearest, first, candidates } = search;
  const across = grid.cols / groupCols, units = new Int32Array(groupCols);
  for (let r = 0; r < grid.rows; r++) {
    for (let g = 0; g < across; g++) {
      let most = 0;
      for (let k = 0; k < groupCols; k++) {
        const c = g * groupCols + k;
        units[k] = levelUnits(x[r * grid.cols + c]!, scales[groupOf(grid, r, c)]!);
        most = Math.max(most, Math.abs(units[k]!));
      }
      let least = Infinity;
      const start = first[most >> 5]!;
      for (let candidate = 0; candidate < candidates; candidate++) {
        const set = Math.max(0, start - candidate);
        const error = squaredError(units, nearest, set);
        if (error >= least) continue;
        least = error;
        choices[r * across + g] = set;
      }
    }
  }
}

/** In units of 1 / LEVEL_STEPS², modulo 2^32. */
function squaredError(units: Int32Array, nearest: Int8Array, set: number): number {
  let sum = 0;
  for (const u of units) {
    const error = u - LEVEL_STEPS * nearest[set * LEVEL_TABLE + levelIndex(u)]!;
    sum = (sum + Math.imul(error, error)) >>> 0;
  }
  return sum;
}
