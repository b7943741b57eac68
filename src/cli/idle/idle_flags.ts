/** All flags that cannot change anything in the chosen mode, reported once each, never silently. */

import { resolveMode } from "../../plan/scheme_choice.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import type { Parsed } from "../parse.ts";
import type { ConvertIo } from "../request.ts";
import { calibrationRules } from "./calibration.ts";
import { formatRules, fp16Rules, ownScaleRules } from "./format.ts";
import { idleBy, type IdleFacts } from "./idle_rule.ts";
import { layerRules } from "./layers.ts";
import { learnedRules } from "./learned.ts";
import { quipRules } from "./quip.ts";
import { checkRules, dryRunRules } from "./running.ts";

/** In this order: of two reasons the more general one is reported. */
const TABLES = [
  fp16Rules,
  dryRunRules,
  ownScaleRules,
  formatRules,
  checkRules,
  layerRules,
  calibrationRules,
  quipRules,
  learnedRules,
] as const;

/**
 * Returns one sentence per reason for the given flags that change nothing.
 *
 * @param parsed what was given.
 * @param options what it resolved to; `io` likewise.
 */
export function idleFlags(parsed: Parsed, options: ConvertOptions, io: ConvertIo): string[] {
  const isMixed = options.layers !== null;
  const facts: IdleFacts = {
    options,
    io,
    mode: resolveMode(options),
    isMixed,
    quantizes: options.output !== "fp16" || isMixed,
    copiesModes: options.preset.kind === "like",
    hasData: options.calibrationPath !== null || options.calibrationLora !== null,
  };
  const rules = TABLES.flatMap((table) => table(facts));
  return idleBy(rules, (name) => parsed.has(name) ? `--${name}` : null).warnings;
}
