import assert from "node:assert/strict";
import { SCHEDULES } from "../../../src/quant/learned/options.ts";
import { createSchedule } from "../../../src/quant/learned/schedule.ts";

/** Rates of a schedule after losses; an improvement is a loss below all before. */
function rates(schedule: ReturnType<typeof createSchedule>, losses: readonly number[]): number[] {
  let best = Infinity;
  return losses.map((loss) => {
    schedule.step(loss, loss < best);
    best = Math.min(best, loss);
    return schedule.lr;
  });
}

Deno.test("createSchedule() adaptive raises the rate at improvements and lowers it otherwise", () => {
  const schedule = createSchedule(SCHEDULES.adaptive, 1, 1);
  assert.deepEqual(rates(schedule, [3, 2, 2, 2]), [
    1.25,
    1.5625,
    1.5625 * 0.95,
    1.5625 * 0.95 * 0.95,
  ]);
});

Deno.test("createSchedule() adaptive takes its factors from the tier of failed steps, which simple-reset ends", () => {
  const losses = [2, ...Array<number>(60).fill(3), 1, 0.5];
  const [resetting, keeping] = (["simple-reset", "no-reset"] as const).map((mode) => {
    const all = rates(createSchedule({ kind: "adaptive", mode }, 1, 1), losses);
    return all.map((rate, i) => i === 0 ? 1 : Math.round(1e6 * rate / all[i - 1]!) / 1e6);
  });
  assert.deepEqual([resetting![25], resetting![26], resetting![51]], [0.95, 0.97, 0.985]);
  assert.deepEqual(resetting!.slice(-2), [1.375, 1.25]);
  assert.deepEqual(keeping!.slice(-2), [1.375, 1.375]);
});

Deno.test("createSchedule() adaptive stays within its bounds, and leaves what is outside alone", () => {
  const falling = Array.from({ length: 60 }, (_, i) => 60 - i), flat = Array<number>(900).fill(1);
  assert.equal(rates(createSchedule(SCHEDULES.adaptive, 1, 1), falling).at(-1), 100);
  assert.equal(rates(createSchedule(SCHEDULES.adaptive, 500, 1), falling).at(-1), 500);
  const least = rates(createSchedule(SCHEDULES.adaptive, 1e-7, 1), flat).at(-1)!;
  assert(least > 4e-9 && least < 1e-7, `${least}`);
});

Deno.test("createSchedule() exponential multiplies by gamma every step", () => {
  const schedule = createSchedule({ kind: "exponential", gamma: 0.5 }, 1, 9);
  assert.deepEqual(rates(schedule, [1, 2, 0.1]), [0.5, 0.25, 0.125]);
});

Deno.test("createSchedule() plateau waits for patience, then for cooldown", () => {
  const options = { ...SCHEDULES.plateau, patience: 2, factor: 0.5, cooldown: 2 };
  const seen = rates(createSchedule(options, 1, 1), [5, 5, 5, 5, 5, 5, 5, 5, 5]);
  assert.deepEqual(seen, [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]);
});

Deno.test("createSchedule() plateau counts only improvements beyond the threshold, relative or absolute", () => {
  const options = { ...SCHEDULES.plateau, patience: 0, factor: 0.5, cooldown: 0, threshold: 0.2 };
  const losses = [10, 9, 7.5, 7.2];
  assert.deepEqual(rates(createSchedule(options, 1, 1), losses), [1, 0.5, 0.5, 0.25]);
  const absolute = { ...options, thresholdMode: "abs" as const };
  assert.deepEqual(rates(createSchedule(absolute, 1, 1), losses), [1, 1, 1, 1]);
});

Deno.test("createSchedule() plateau lets the rate of long layers fall faster, down to the minimum", () => {
  const options = { ...SCHEDULES.plateau, patience: 0, factor: 0.75, cooldown: 0, min: 0.2 };
  assert.deepEqual(rates(createSchedule(options, 1, 4), [1, 1, 1, 1]), [1, 0.5, 0.25, 0.2]);
  const even = { ...options, shapeInfluence: 0 };
  assert.deepEqual(rates(createSchedule(even, 1, 4), [1, 1]), [1, 0.75]);
});
