/** How many workers there are without `--workers`. */

import { availableParallelism } from "node:os";
import { RUN_DEFAULTS } from "../../plan/options.ts";

/** Returns one worker per core, within reason. */
export function defaultWorkers(): number {
  return Math.min(RUN_DEFAULTS.maxWorkers, availableParallelism());
}
