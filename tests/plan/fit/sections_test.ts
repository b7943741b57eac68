import assert from "node:assert/strict";
import { randomFor } from "../../../src/core/rng.ts";
import type { Option } from "../../../src/plan/fit/choose.ts";
import { cheapest, chooseWithin, frontierOf, sectionsOf } from "../../../src/plan/fit/sections.ts";

const FORMATS = ["wide", "eight", "six", "four"] as const;
const COSTS = [16, 8, 6, 4];

/** Items that can have all formats; a few look as if four bits cost them nothing. */
function itemsOf(count: number): Option[][] {
  const next = randomFor(1, "items");
  return Array.from({ length: count }, (_, item) => {
    const own = 1 + next() % 50;
    const losses = [0, own, 4 * own, item % 5 === 0 ? own : 60 * own];
    return COSTS.map((cost, k) => ({ cost, loss: losses[k]! }));
  });
}

function sectionsFor(items: readonly (readonly Option[])[]) {
  const formats = items.map(() => FORMATS);
  const singles = new Map(
    FORMATS.slice(1).map((format, k): [(typeof FORMATS)[number], number] => [
      format,
      COSTS[k + 1]! * items.length,
    ]),
  );
  return sectionsOf(items, formats, singles);
}

Deno.test("chooseWithin() gives no item less than the largest format in which all fit", () => {
  const items = itemsOf(20), sections = sectionsFor(items);
  for (const [limit, poorest] of [[100, 3], [119, 3], [120, 2], [150, 2], [160, 1], [200, 1]]) {
    const choice = chooseWithin(sections, limit!)!;
    assert(choice.cost <= limit!, `${choice.cost} of ${limit}`);
    assert(Math.max(...choice.options) <= poorest!, `${choice.options} for ${limit}`);
  }
  // Without sections some would have four bits at that size, as they look better.
  assert(chooseWithin(sections, 119)!.options.includes(3));
  assert.equal(chooseWithin(sections, 79), null);
  assert.deepEqual(chooseWithin(sections, 1000)!.options, items.map(() => 0));
});

Deno.test("chooseWithin() takes a poorer format if an item cannot have the one in which the others fit", () => {
  const items = [
    [{ cost: 16, loss: 0 }, { cost: 8, loss: 1 }],
    [{ cost: 16, loss: 0 }, { cost: 4, loss: 9 }],
  ];
  const formats = [["wide", "eight"], ["wide", "four"]];
  const sections = sectionsOf(items, formats, new Map([["eight", 14], ["four", 10]]));
  assert.deepEqual(chooseWithin(sections, 15)!.options, [1, 1]);
});

Deno.test("cheapest() finds the least cost for a loss, with no item below the format of that size", () => {
  const items = itemsOf(20), sections = sectionsFor(items);
  const lossOf = (k: number) => items.reduce((sum, options) => sum + options[k]!.loss, 0);
  const six = cheapest(sections, lossOf(2))!;
  assert(six.cost <= 6 * items.length && six.loss <= lossOf(2));
  const eight = cheapest(sections, lossOf(1) / 2)!;
  assert(eight.loss <= lossOf(1) / 2);
  assert(eight.cost < 8 * items.length || Math.max(...eight.options) <= 1, `${eight.options}`);
  assert.equal(cheapest(sections, -1), null);
});

Deno.test("frontierOf() has falling losses for growing costs, from the cheapest to the least loss", () => {
  const items = itemsOf(20), points = frontierOf(sectionsFor(items));
  points.slice(1).forEach(({ cost, loss }, k) => {
    assert(cost > points[k]!.cost && loss <= points[k]!.loss, `${cost} ${loss}`);
  });
  assert.deepEqual(points.at(-1), { cost: 320, loss: 0 });
  assert.equal(points[0]!.cost, 80);
});
