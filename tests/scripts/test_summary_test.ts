import { deepStrictEqual, strictEqual } from "node:assert/strict";
import {
  parseTestSummary,
  summaryLine,
  verdictOfTests,
} from "../../scripts/support/test_summary.ts";

Deno.test("parseTestSummary() reads the last summary of a run", () => {
  deepStrictEqual(
    parseTestSummary("a test ... ok (1ms)\n\nok | 12 passed (3 steps) | 0 failed (7ms)\n\n"),
    { passed: 12, failed: 0, skipped: 0 },
  );
  deepStrictEqual(
    parseTestSummary(
      "ok | 1 passed | 0 failed\nFAILED | 5 passed | 2 failed (1 step) | 4 ignored (1s)\n",
    ),
    { passed: 5, failed: 2, skipped: 4 },
  );
});

Deno.test("parseTestSummary() reads through colour codes", () => {
  const colored =
    "\x1b[0m\x1b[32mok\x1b[0m | 589 passed | 0 failed | 2 ignored \x1b[90m(13s)\x1b[0m\n";
  deepStrictEqual(parseTestSummary(colored), { passed: 589, failed: 0, skipped: 2 });
});

Deno.test("parseTestSummary() returns null if no summary came", () => {
  strictEqual(parseTestSummary("error: Type checking failed.\n"), null);
});

Deno.test("summaryLine() names skipped tests only if there are any", () => {
  strictEqual(summaryLine({ passed: 3, failed: 0, skipped: 0 }), "3 passed, 0 failed");
  strictEqual(summaryLine({ passed: 3, failed: 1, skipped: 2 }), "3 passed, 1 failed, 2 skipped");
});

Deno.test("verdictOfTests() counts failures without a name, and not a crash after the last test", () => {
  const passed = { passed: 3, failed: 0, skipped: 1 }, failed = { ...passed, failed: 2 };
  const of = (code: number | null, signal: string | null, summary: typeof passed | null) => {
    const verdict = verdictOfTests({ code, signal, summary });
    return [verdict.passed, verdict.failed, verdict.remark !== null];
  };
  deepStrictEqual(of(0, null, passed), [3, 0, false]);
  deepStrictEqual(of(1, null, failed), [3, 2, false]);
  deepStrictEqual(of(1, null, passed), [3, 1, false]);
  deepStrictEqual(of(0, null, null), [0, 1, true]);
  deepStrictEqual(of(null, "SIGSEGV", null), [0, 1, true]);
  deepStrictEqual(of(null, "SIGSEGV", passed), [3, 0, true]);
  deepStrictEqual(of(null, "SIGSEGV", failed), [3, 2, false]);
  deepStrictEqual(of(null, "SIGKILL", passed), [3, 1, false]);
});
