/** roundToTable: see `Kernels.roundToTable`, `asm/round_to_table.ts`. */

import { type Grid, LEVEL_STEPS, TABLE_BYTES, type TableRounding } from "../backend.ts";
import { checkGrid, checkTableRounding } from "../kernel_checks.ts";
import { bestSet, nearestLevel, unitsOfGroups } from "./level_groups.ts";

/** Sets of least error in whole scales, and the levels of them. */
export function roundToTable(
  codes: Int8Array,
  choices: Uint8Array,
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
  rounding: TableRounding,
): void {
  checkGrid("roundToTable", grid, { codes, x }, { scales });
  checkTableRounding(grid, choices, rounding);
  const { steps, first, groupCols } = rounding;
  unitsOfGroups(x, scales, grid, groupCols).forEach((units, g) => {
    const whole = units.map((u) => Math.max(-127, Math.min(127, (u + LEVEL_STEPS / 2) >> 5)));
    const start = first[Math.max(...whole.map(Math.abs))]!;
    const set = bestSet(start, (set) => {
      const at = set * TABLE_BYTES, middles = steps.subarray(at + 1, at + 16);
      return whole.reduce((sum, c) => {
        const level = steps[at + 16 + middles.filter((middle) => c > middle).length]!;
        return sum + Math.min((c - level) ** 2, 4095);
      }, 0);
    });
    const levels = steps.subarray(set * TABLE_BYTES + 16, set * TABLE_BYTES + 32);
    choices[g] = set;
    codes.set(units.map((u) => nearestLevel(u, levels)), g * groupCols);
  });
}
