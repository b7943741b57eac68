/** The flags of learned rounding. */

import { UsageError } from "../core/errors.ts";
import {
  checkLearnedOptions,
  DEFAULT_LEARNED_OPTIONS,
  type LearnedOptions,
  type ScheduleOptions,
  SCHEDULES,
} from "../quant/learned/options.ts";
import type { Parsed } from "./parse.ts";

/** What concerns the search. */
export const LEARNED_FLAGS = [
  "num_iter",
  "lr",
  "top_p",
  "min_k",
  "max_k",
  "full_matrix",
  "lr_schedule",
  "lr_gamma",
  "lr_patience",
  "lr_factor",
  "lr_min",
  "lr_cooldown",
  "lr_threshold",
  "lr_adaptive_mode",
  "lr-shape-influence",
  "lr-threshold-mode",
  "early-stop-loss",
  "early-stop-lr",
  "early-stop-stall",
  "weight-error-limit",
] as const;

/** What belongs to one schedule. */
export const SCHEDULE_FLAGS: Readonly<Record<ScheduleOptions["kind"], readonly string[]>> = {
  adaptive: ["lr_adaptive_mode"],
  exponential: ["lr_gamma"],
  plateau: [
    "lr_patience",
    "lr_factor",
    "lr_min",
    "lr_cooldown",
    "lr_threshold",
    "lr-shape-influence",
    "lr-threshold-mode",
  ],
};

/** Returns how codes are learned. @throws UsageError where flags contradict one another. */
export function learnedOf(parsed: Parsed): LearnedOptions {
  const base = DEFAULT_LEARNED_OPTIONS;
  const options = Object.freeze<LearnedOptions>({
    iterations: parsed.number("num_iter") ?? base.iterations,
    lr: parsed.number("lr") ?? base.lr,
    topP: parsed.number("top_p") ?? base.topP,
    // One of the bounds alone moves the other one out of its way.
    minDirections: parsed.number("min_k") ??
      Math.min(base.minDirections, parsed.number("max_k") ?? Infinity),
    maxDirections: parsed.number("max_k") ??
      Math.max(base.maxDirections, parsed.number("min_k") ?? 0),
    fullMatrix: parsed.bool("full_matrix"),
    schedule: scheduleOf(parsed),
    stopLoss: parsed.number("early-stop-loss") ?? base.stopLoss,
    stopLr: parsed.number("early-stop-lr") ?? base.stopLr,
    stopStall: parsed.number("early-stop-stall") ?? base.stopStall,
    errorLimitDb: parsed.number("weight-error-limit") ?? base.errorLimitDb,
  });
  checkLearnedOptions(options);
  return options;
}

function scheduleOf(parsed: Parsed): ScheduleOptions {
  const kind = parsed.string("lr_schedule") as ScheduleOptions["kind"] | null;
  if (kind !== null) refuseOthers(parsed, kind);
  switch (kind ?? "adaptive") {
    case "adaptive": {
      const mode = parsed.string("lr_adaptive_mode") as typeof SCHEDULES.adaptive.mode | null;
      return { ...SCHEDULES.adaptive, ...(mode === null ? {} : { mode }) };
    }
    case "exponential":
      return {
        kind: "exponential",
        gamma: parsed.number("lr_gamma") ?? SCHEDULES.exponential.gamma,
      };
    case "plateau": {
      const base = SCHEDULES.plateau, mode = parsed.string("lr-threshold-mode");
      return {
        kind: "plateau",
        patience: parsed.number("lr_patience") ?? base.patience,
        factor: parsed.number("lr_factor") ?? base.factor,
        min: parsed.number("lr_min") ?? base.min,
        cooldown: parsed.number("lr_cooldown") ?? base.cooldown,
        threshold: parsed.number("lr_threshold") ?? base.threshold,
        thresholdMode: mode === "abs" ? "abs" : "rel",
        shapeInfluence: parsed.number("lr-shape-influence") ?? base.shapeInfluence,
      };
    }
  }
}

/** A schedule that was asked for cannot be that of another's flags. */
function refuseOthers(parsed: Parsed, kind: ScheduleOptions["kind"]): void {
  for (const [other, names] of Object.entries(SCHEDULE_FLAGS)) {
    const name = other === kind ? undefined : names.find((name) => parsed.has(name));
    if (name === undefined) continue;
    throw new UsageError(
      `Cannot use --${name} with --lr_schedule ${kind}: it belongs to --lr_schedule ${other}`,
    );
  }
}
