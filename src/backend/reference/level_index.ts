/** Place of the level nearest to a value in the table of a set: see `LevelSets` in `backend.ts`. */

import { LEVEL_STEPS, LEVEL_UNITS_MAX } from "../backend.ts";
import { roundHalfEven } from "./round_half_even.ts";

/** Returns x / scale in units of 1 / LEVEL_STEPS: rounded half to even, at most LEVEL_UNITS_MAX; 0 for NaN. */
export function levelUnits(x: number, scale: number): number {
  const t = Math.fround(Math.fround(x / scale) * LEVEL_STEPS);
  if (Number.isNaN(t)) return 0;
  return roundHalfEven(Math.max(-LEVEL_UNITS_MAX, Math.min(LEVEL_UNITS_MAX, t)));
}

/** Returns the place of `units` in the table of a set. */
export function levelIndex(units: number): number {
  return Math.max(-255, Math.min(256, (units + LEVEL_STEPS / 2 - 1) >> 4)) + 255;
}
