import assert from "node:assert/strict";
import { batchTable, countOutcomes, type FileOutcome } from "../../src/cli/batch_table.ts";

const NOTHING: FileOutcome = {
  input: "m",
  outcome: "not begun",
  output: null,
  reason: null,
  outputBytes: null,
  sqnrDb: null,
  elapsedMs: null,
};

Deno.test("batchTable() has a line per model with its reason, and one that counts", () => {
  const lines = batchTable([
    {
      ...NOTHING,
      outcome: "converted",
      output: "m_int8",
      outputBytes: 2e9,
      sqnrDb: 42.567,
      elapsedMs: 1500,
    },
    { ...NOTHING, input: "n\x1b[2J", outcome: "failed", reason: "it holds NaN" },
  ]);
  assert.deepEqual(lines, [
    "outcome       size  SQNR dB   time  model",
    "converted  2.00 GB    42.57  1.5 s  m -> m_int8",
    "failed                              n?[2J: it holds NaN",
    "2 models: 1 converted, 1 failed",
  ]);
});

Deno.test("countOutcomes() counts every outcome under a name without blanks", () => {
  assert.deepEqual(countOutcomes([NOTHING, NOTHING]), {
    converted: 0,
    skipped: 0,
    failed: 0,
    interrupted: 0,
    not_begun: 2,
  });
});
