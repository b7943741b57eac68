/** Reads the last word of `deno test`: how many tests passed, failed and were skipped. */

import { stripVTControlCharacters } from "node:util";

/** How a test run ended. */
export interface TestSummary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const SUMMARY =
  /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \(\d+ steps?\))?(?: \| (\d+) ignored)?/;

/**
 * Returns what the last summary line of `output` says, null if there is none: the run never came
 * to its end (a type error, a crash). Colour codes are ignored.
 */
export function parseTestSummary(output: string): TestSummary | null {
  const lines = stripVTControlCharacters(output).split(/\r?\n/);
  for (const line of lines.reverse()) {
    const match = SUMMARY.exec(line);
    if (match === null) continue;
    const [, passed, failed, ignored] = match;
    return { passed: Number(passed), failed: Number(failed), skipped: Number(ignored ?? 0) };
  }
  return null;
}

/** Returns the line `N passed, N failed`, with `, N skipped` if any was. */
export function summaryLine({ passed, failed, skipped }: TestSummary): string {
  return `${passed} passed, ${failed} failed` + (skipped > 0 ? `, ${skipped} skipped` : "");
}
