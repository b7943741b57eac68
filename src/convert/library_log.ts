/** Messages of the library during a conversion: nothing, until a program asks for it. */

import { checkOptions, oneOf } from "../plan/option_schema.ts";

/** How much is reported; each level includes those before it. `MINIMAL`: warnings only. */
export type LogLevel = "MINIMAL" | "NORMAL" | "VERBOSE" | "DEBUG";

const LEVELS = ["MINIMAL", "NORMAL", "VERBOSE", "DEBUG"] as const;

let loudest = -1;
let sink: (line: string) => void = () => {};

/**
 * Lets `convertToInt8` report what it does, one line each. Applies to all conversions of this program
 * from then on.
 *
 * @param level how much.
 * @param write takes a line, without its end. Default: stderr.
 * @throws UsageError for another level.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const lines: string[] = [];
 * setupLogging("VERBOSE", (line) => lines.push(line));
 * assert.throws(() => setupLogging("LOUD" as "DEBUG"), /one of MINIMAL, NORMAL, VERBOSE, DEBUG/);
 * ```
 */
export function setupLogging(
  level: LogLevel,
  write: (line: string) => void = (line) => console.error(line),
): void {
  checkOptions({ level: oneOf(...LEVELS) }, { level }, { what: "setupLogging" });
  loudest = LEVELS.indexOf(level);
  sink = write;
}

/** Reports a line if its level was asked for. Control characters of names in it are made visible. */
export function reportLine(level: LogLevel, line: string): void {
  if (LEVELS.indexOf(level) > loudest) return;
  sink(line.replaceAll(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16)}`));
}
