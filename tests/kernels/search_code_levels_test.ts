import assert from "node:assert/strict";
import { groupedLevels, levelsOf, levelTables } from "../../src/quant/level_grid.ts";
import { assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { normal, uniform } from "./values.ts";

const take = (count: number) => new Uint8Array(count);

for (const groupCols of [16, 64]) {
  const scheme = groupedLevels({ bits: 4, groupCols }), groups = 500;
  const search = levelTables(scheme, take).byCodes!;

  testEachBackend(
    `searchCodeLevels() finds the nearest of all sets: groups of ${groupCols}`,
    async (subject) => {
      const draw = normal(groupCols);
      const codes = Int8Array.from(
        { length: groups * groupCols },
        () => Math.max(-127, Math.min(127, Math.round(40 * draw()))),
      );
      const choices = subject.output(new Uint8Array(), groups);
      await subject.kernels.searchCodeLevels(choices, subject.input(codes), {
        ...search,
        steps: subject.input(search.steps),
        first: subject.input(search.first),
      });
      let chosen = 0, best = 0;
      choices.forEach((set, g) => {
        const own = codes.subarray(g * groupCols, (g + 1) * groupCols);
        const errors = Array.from({ length: 126 }, (_, s) => errorOf(s + 1, own));
        chosen += errors[set - 1]!;
        best += Math.min(...errors);
      });
      assert(chosen <= 1.02 * best, `${chosen / best} of the least error`);
    },
  );

  const errorOf = (set: number, codes: Int8Array): number => {
    const levels = levelsOf(scheme, set);
    return codes.reduce(
      (sum, code) => sum + Math.min(...levels.map((level) => Math.abs(code - level))) ** 2,
      0,
    );
  };
}

Deno.test("searchCodeLevels() gives the same on every backend", async () => {
  const next = uniform(8), byte = () => Math.floor(256 * next());
  const codes = Int8Array.from({ length: 33 * 48 }, byte);
  // Tables of any numbers, and groups of zeros.
  codes.fill(0, 96, 192);
  const steps = Int8Array.from({ length: 9 * 32 }, byte);
  const first = Uint8Array.from({ length: 128 }, () => Math.floor(9 * next()));
  for (let set = 0; set < 9; set++) steps.subarray(set * 32, set * 32 + 15).sort();
  await assertSameOnAllBackends("any tables", async (subject) => {
    const choices = subject.output(new Uint8Array(), 33);
    await subject.kernels.searchCodeLevels(
      choices,
      subject.input(codes.map((c) => Math.max(-127, c))),
      {
        groupCols: 48,
        candidates: 4,
        steps: subject.input(steps),
        first: subject.input(first),
      },
    );
    return [choices];
  });
});
