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

/** How the process of a test run ended. */
export interface TestEnd {
  readonly code: number | null;
  readonly signal: string | null;
  /** Of its output; null: the run never came to its end. */
  readonly summary: TestSummary | null;
}

/** What is made of it. */
export interface TestVerdict extends TestSummary {
  /** For people; null: nothing. */
  readonly remark: string | null;
}

/**
 * Judges a test run. One that broke off is a failure, and so is one that failed without naming a test. But drivers of
 * software GPUs sometimes crash when the process takes them down, after the last test: that is reported, and tests
 * count as they ended.
 */
export function verdictOfTests({ code, signal, summary }: TestEnd): TestVerdict {
  const none = { passed: 0, failed: 0, skipped: 0, ...summary };
  if (summary === null) {
    return { ...none, failed: 1, remark: "The tests did not come to their end" };
  }
  if (signal === "SIGSEGV" && summary.failed === 0) {
    const remark = "After the last test the process crashed (SIGSEGV), as drivers of software " +
      "GPUs do now and then when they are taken down";
    return { ...none, remark };
  }
  return { ...none, failed: Math.max(summary.failed, code === 0 ? 0 : 1), remark: null };
}
