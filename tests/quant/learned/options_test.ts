import assert from "node:assert/strict";
import { UsageError } from "../../../src/core/errors.ts";
import {
  checkLearnedOptions,
  DEFAULT_LEARNED_OPTIONS,
  directionCount,
  type LearnedOptions,
  SCHEDULES,
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

Deno.test("checkLearnedOptions() takes the defaults and refuses what is no number or contradicts", () => {
  checkLearnedOptions(DEFAULT_LEARNED_OPTIONS);
  const plateau = (change: object) => ({ schedule: { ...SCHEDULES.plateau, ...change } });
  const cases: readonly [Partial<LearnedOptions>, RegExp][] = [
    [{ lr: NaN }, /NaN for --lr:/],
    [{ lr: -1 }, /--lr:/],
    [{ iterations: 1.5 }, /--num_iter: it takes a whole number/],
    [{ topP: 1.1 }, /--top_p: it takes a number from 0 to 1/],
    [{ minDirections: 0 }, /--min_k/],
    [{ minDirections: 65, maxDirections: 64 }, /--min_k 65 with --max_k 64/],
    [{ stopStall: 0 }, /--early-stop-stall/],
    [{ stopLoss: NaN }, /--early-stop-loss/],
    [{ stopLr: Infinity }, /--early-stop-lr/],
    [{ errorLimitDb: -0.1 }, /--weight-error-limit/],
    [{ schedule: { kind: "exponential", gamma: 1.01 } }, /--lr_gamma/],
    [plateau({ factor: NaN }), /--lr_factor/],
    [plateau({ patience: -1 }), /--lr_patience/],
    [plateau({ cooldown: 0.5 }), /--lr_cooldown/],
    [plateau({ threshold: -1 }), /--lr_threshold/],
    [plateau({ shapeInfluence: -1 }), /--lr-shape-influence/],
    [plateau({ min: 1 }), /--lr_min 1 with --lr 0.008077/],
  ];
  for (const [change, message] of cases) {
    const options = { ...DEFAULT_LEARNED_OPTIONS, ...change };
    assert.throws(
      () => checkLearnedOptions(options),
      (error) => error instanceof UsageError && message.test(error.message),
      String(message),
    );
  }
});
