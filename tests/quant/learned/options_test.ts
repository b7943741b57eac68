import assert from "node:assert/strict";
import {
  DEFAULT_LEARNED_OPTIONS,
  directionCount,
  type LearnedOptions,
} from "../../../src/quant/learned/options.ts";

Deno.test("directionCount() is the share of the shorter side, within its bounds", () => {
  const count = (change: Partial<LearnedOptions>, rows: number, cols: number) =>
    directionCount({ ...DEFAULT_LEARNED_OPTIONS, ...change }, rows, cols);
  assert.deepEqual([count({}, 1000, 3000), count({}, 100, 100), count({}, 9000, 9000)], [
    200,
    64,
    1024,
  ]);
  assert.equal(count({ topP: 0.5 }, 999, 2000), 499);
});
