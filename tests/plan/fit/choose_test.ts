import assert from "node:assert/strict";
import fc from "fast-check";
import { choose, frontier, type Option } from "../../../src/plan/fit/choose.ts";

/** The least loss of all choices within the limit, by trying every one. */
function leastLoss(items: readonly (readonly Option[])[], limit: number): number | null {
  let best: number | null = null;
  const walk = (item: number, cost: number, loss: number): void => {
    if (cost > limit) return;
    if (item === items.length) {
      best = best === null ? loss : Math.min(best, loss);
      return;
    }
    for (const option of items[item]!) walk(item + 1, cost + option.cost, loss + option.loss);
  };
  walk(0, 0, 0);
  return best;
}

const option = fc.record({
  cost: fc.integer({ min: 1, max: 40 }),
  loss: fc.integer({ min: 0, max: 60 }),
});
const someItems = fc.array(fc.array(option, { minLength: 1, maxLength: 4 }), {
  minLength: 1,
  maxLength: 7,
});

Deno.test("choose() finds the least loss of all choices within the limit", () => {
  fc.assert(
    fc.property(someItems, fc.integer({ min: 0, max: 250 }), (items, limit) => {
      const want = leastLoss(items, limit), got = choose(items, limit);
      if (want === null) return assert.equal(got, null);
      assert.ok(got !== null && got.isBest);
      assert.equal(got.loss, want);
      assert.ok(got.cost <= limit);
      const sums = got.options.map((index, item) => items[item]![index]!);
      assert.equal(sums.reduce((sum, { cost }) => sum + cost, 0), got.cost);
      assert.equal(sums.reduce((sum, { loss }) => sum + loss, 0), got.loss);
    }),
    { numRuns: 500 },
  );
});

Deno.test("frontier() begins with the cheapest choice, ends with the least loss, and no choice beats it", () => {
  fc.assert(
    fc.property(someItems, (items) => {
      const points = frontier(items);
      for (const { cost, loss } of points) assert.equal(leastLoss(items, cost), loss);
      const least = items.reduce((sum, item) => sum + Math.min(...item.map(({ loss }) => loss)), 0);
      assert.equal(points.at(-1)!.loss, least);
    }),
    { numRuns: 200 },
  );
});

Deno.test("choose() takes a model of a thousand layers to within the bytes of a layer, and says that it is best", () => {
  let state = 7;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  // Layers of few shapes, as models have them; errors of 16, 8, 6 and 4 bits.
  const items = Array.from({ length: 1000 }, (_, k) => {
    const elements = [9_437_184, 37_748_736, 3072 * 64][k % 3]!;
    const error = 1e-4 * (0.5 + random());
    return [2, 1.001, 0.8125, 0.5625].map((bytes, format) => ({
      cost: Math.round(elements * bytes),
      loss: [0, error, 4 * error, 40 * error][format]!,
    }));
  });
  const all = items.reduce((sum, [, int8]) => sum + int8!.cost, 0);
  for (const share of [0.6, 0.9, 1, 1.1, 1.5]) {
    const limit = Math.round(share * all), found = choose(items, limit);
    assert.ok(found !== null && found.cost <= limit);
    const { cost } = found;
    assert.ok(limit - cost < limit / 1000, `${limit - cost} bytes are left`);
    const swept = frontier(items).filter((point) => point.cost <= limit).at(-1)!;
    assert.ok(found.loss <= swept.loss * (1 + 1e-12));
  }
  const int8 = items.reduce((sum, [, option]) => sum + option!.loss, 0);
  assert.ok(choose(items, all)!.loss <= int8, "no worse than all layers in INT8");
});
