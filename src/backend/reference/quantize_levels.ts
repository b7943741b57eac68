/** quantizeLevels: see `Kernels.quantizeLevels`, `asm/quantize_levels.ts`. */

import { type Grid, LEVEL_TABLE, type LevelSets } from "../backend.ts";
import { checkGrid, checkLevels } from "../kernel_checks.ts";
import { groupOf } from "./groups.ts";
import { levelIndex, levelUnits } from "./level_index.ts";

/** codes = the level of the set of x's group that is nearest to x / scale. NaN counts as 0. */
export function quantizeLevels(
  codes: Int8Array,
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
  sets: LevelSets & { readonly choices: Uint8Array },
): void {
  checkGrid("quantizeLevels", grid, { codes, x }, { scales });
  checkLevels("quantizeLevels", grid, sets);
  const { choices, nearest, groupCols } = sets, across = grid.cols / groupCols;
  for (let r = 0; r < grid.rows; r++) {
    for (let c = 0; c < grid.cols; c++) {
      const i = r * grid.cols + c;
      const set = choices[r * across + Math.floor(c / groupCols)]!;
      const at = levelIndex(levelUnits(x[i]!, scales[groupOf(grid, r, c)]!));
      codes[i] = nearest[set * LEVEL_TABLE + at]!;
    }
  }
}
