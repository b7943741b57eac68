import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { parseTestSummary, summaryLine } from "../../scripts/support/test_summary.ts";

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
