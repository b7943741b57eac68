/** The flags of learned rounding. */

import { UsageError } from "../core/errors.ts";
import type { ScheduleOptions } from "../quant/learned/options.ts";
import { flagsOfOption, SCHEDULE_OPTIONS } from "./option_flags.ts";
import type { Parsed } from "./parse.ts";

/** Flags of one schedule. */
export const SCHEDULE_FLAGS: Readonly<Record<ScheduleOptions["kind"], readonly string[]>> = {
  adaptive: Object.values(SCHEDULE_OPTIONS.adaptive),
  exponential: Object.values(SCHEDULE_OPTIONS.exponential),
  plateau: Object.values(SCHEDULE_OPTIONS.plateau),
};

/** Flags of the search. */
export const LEARNED_FLAGS: readonly string[] = [
  ...flagsOfOption("learned"),
  "lr_schedule",
  ...Object.values(SCHEDULE_FLAGS).flat(),
];

/** @throws UsageError for a flag that belongs to another schedule than the one that was asked for. */
export function refuseOtherSchedules(parsed: Parsed, kind: ScheduleOptions["kind"]): void {
  for (const [other, names] of Object.entries(SCHEDULE_FLAGS)) {
    const name = other === kind ? undefined : names.find((name) => parsed.has(name));
    if (name === undefined) continue;
    throw new UsageError(
      `Cannot use --${name} with --lr_schedule ${kind}: it belongs to --lr_schedule ${other}`,
    );
  }
}
