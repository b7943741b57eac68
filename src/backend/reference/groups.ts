/** How elements belong to groups; see `Grid` in `../backend.ts`. */

import type { Grid } from "../backend.ts";

/** Returns the index of the scale of the element in row `r`, column `c`. */
export function groupOf(grid: Grid, r: number, c: number): number {
  const groupsPerRow = grid.cols / grid.groupCols;
  return Math.floor(r / grid.groupRows) * groupsPerRow + Math.floor(c / grid.groupCols);
}
