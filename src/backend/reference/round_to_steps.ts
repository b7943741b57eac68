/** roundToSteps: see `Kernels.roundToSteps`, `asm/round_to_steps.ts`. */

import { type Grid, LEVEL_STEPS, type StepRounding, STEPS_BYTES } from "../backend.ts";
import { checkGrid, checkStepRounding } from "../kernel_checks.ts";
import { bestSet, nearestLevel, unitsOfGroups } from "./level_groups.ts";

/** Sets of least error, and the levels of them. */
export function roundToSteps(
  codes: Int8Array,
  choices: Uint8Array,
  x: Float32Array,
  scales: Float32Array,
  grid: Grid,
  rounding: StepRounding,
): void {
  checkGrid("roundToSteps", grid, { codes, x }, { scales });
  checkStepRounding(grid, choices, rounding);
  const { steps, first, groupCols } = rounding;
  const levelsOf = (set: number) => {
    const positive = [...steps.subarray(set * STEPS_BYTES + 32, set * STEPS_BYTES + 64)];
    return [...positive.map((level) => 0 - level).reverse(), ...positive];
  };
  unitsOfGroups(x, scales, grid, groupCols).forEach((units, g) => {
    const start = first[Math.max(...units.map(Math.abs)) >> 5]!;
    const set = bestSet(start, (set) => {
      const levels = levelsOf(set);
      return units.reduce((sum, u) => {
        const error = u - LEVEL_STEPS * nearestLevel(u, levels);
        return (sum + Math.imul(error, error)) >>> 0;
      }, 0);
    });
    const levels = levelsOf(set);
    choices[g] = set;
    codes.set(units.map((u) => nearestLevel(u, levels)), g * groupCols);
  });
}
