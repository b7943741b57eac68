/** Which workers are started before a run is planned. */

import { defaultWorkers } from "../run/workers/default_workers.ts";
import type { Parsed } from "./parse.ts";

/** Flags that most often ask for more than rounding to nearest. */
const METHOD_FLAGS = ["calibration-data", "optimizer", "format"] as const;

/**
 * Returns how many workers are started early, and whether they load more than rounding to nearest takes. For that
 * one is enough: it makes the first layer, which each more would delay by the time that its start takes. Other
 * methods need two at once, as the data is looked at first, and a layer takes longer.
 */
export function earlyWorkers(
  parsed: Pick<Parsed, "has" | "bool" | "number">,
): { readonly count: number; readonly loadsMoreKinds: boolean } {
  const loadsMoreKinds = METHOD_FLAGS.some((name) => parsed.has(name));
  // A limit may allow fewer than are asked for.
  const isLimited = parsed.bool("low-memory") || parsed.has("memory-limit");
  if (!loadsMoreKinds || isLimited) return { count: 1, loadsMoreKinds };
  return { count: Math.min(2, parsed.number("workers") ?? defaultWorkers()), loadsMoreKinds };
}
