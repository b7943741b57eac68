import assert from "node:assert/strict";
import type { Grid, LevelRounding } from "../../src/backend/backend.ts";
import { groupedLevels, levelTables } from "../../src/quant/level_grid.ts";
import { assertSameOnAllBackends, type Subject, testEachBackend } from "./subject.ts";
import { normal, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

const take = (count: number) => new Uint8Array(count);
const grid: Grid = { rows: 6, cols: 256, groupRows: 1, groupCols: 256 };
const SCALES = Float32Array.of(1, 0.01, 0.3, 1e-30, 0, 7);

const SCHEMES = [[4, 16], [4, 64], [4, 256], [6, 16], [6, 64], [6, 256]] as const;

/** Runs the kernel that finds sets and levels; returns both. */
async function round(
  subject: Subject,
  x: Float32Array,
  scales: Float32Array,
  rounding: LevelRounding,
  on: Grid = grid,
) {
  const codes = subject.output(new Int8Array(), x.length);
  const choices = subject.output(new Uint8Array(), x.length / rounding.groupCols);
  const own = { groupCols: rounding.groupCols, first: subject.input(rounding.first) };
  const [from, by] = [subject.input(x), subject.input(scales)];
  if (rounding.kind === "table") {
    const steps = subject.input(rounding.steps);
    const errors = subject.input(rounding.errors);
    await subject.kernels.roundToTable(codes, choices, from, by, on, { ...own, steps, errors });
  } else {
    const steps = subject.input(rounding.steps);
    await subject.kernels.roundToSteps(codes, choices, from, by, on, { ...own, steps });
  }
  return { codes, choices };
}

for (const [bits, groupCols] of SCHEMES) {
  const name = `${bits} bits, groups of ${groupCols}`;
  const tables = levelTables(groupedLevels({ bits, groupCols }), take), rounding = tables.rounding!;

  Deno.test(`${rounding.kind}: the same sets and levels on every backend: ${name}`, async () => {
    for (const flavor of ["plain", "nasty", "outlier", "sparse"] as const) {
      const x = values(9, grid.rows * grid.cols, flavor);
      await assertSameOnAllBackends(flavor, async (subject) => {
        const { codes, choices } = await round(subject, x, SCALES, rounding);
        return [codes, choices];
      });
    }
    // Groups of every size beside the row's largest value: fine sets and coarse ones.
    const draw = normal(bits * groupCols);
    const x = Float32Array.from(
      { length: grid.rows * grid.cols },
      (_, i) => 40 * draw() * 2 ** (-Math.floor(i / groupCols) % 12),
    );
    await assertSameOnAllBackends("sizes", async (subject) => {
      const { codes, choices } = await round(subject, x, SCALES.map(() => 1), rounding);
      return [codes, choices];
    });
  });

  testEachBackend(
    `${rounding.kind}: levels are those of quantizeLevels(): ${name}`,
    async (subject) => {
      const draw = normal(bits + groupCols);
      // Multiples of 1/16: many values lie in the middle between two levels.
      const x = Float32Array.from(
        { length: grid.rows * grid.cols },
        (_, i) => Math.round(16 * 30 * draw() * 2 ** (-Math.floor(i / groupCols) % 9)) / 16,
      );
      const scales = new Float32Array(grid.rows).fill(1);
      const { codes, choices } = await round(subject, x, scales, rounding);
      const again = subject.output(new Int8Array(), x.length);
      await subject.kernels.quantizeLevels(again, subject.input(x), subject.input(scales), grid, {
        groupCols,
        nearest: subject.input(tables.nearest),
        choices: subject.input(choices),
      });
      assert.deepEqual(codes, again);
      if (rounding.kind === "table") return;
      // Evenly spaced sets are chosen by what values lose, as `searchLevels` chooses them.
      const found = subject.output(new Uint8Array(), choices.length);
      await subject.kernels.searchLevels(found, subject.input(x), subject.input(scales), grid, {
        ...tables,
        nearest: subject.input(tables.nearest),
        first: subject.input(tables.first),
      });
      assert.deepEqual(choices, found);
    },
  );

  testEachBackend(
    `${rounding.kind}: refuses sets and groups that do not fit: ${name}`,
    async (subject) => {
      const x = new Float32Array(grid.rows * grid.cols);
      const bad: [Partial<LevelRounding>, RegExp][] = [
        [{ groupCols: 8 }, /no multiple of 16/],
        [{ groupCols: 48 }, /do not tile 256 columns/],
        [{ first: rounding.first.subarray(1) }, /first has \d+ elements/],
        [{ first: rounding.first.map(() => 127) }, /not among the 127/],
      ];
      for (const [more, message] of bad) {
        const own = { ...rounding, ...more } as LevelRounding;
        await assert.rejects(async () => await round(subject, x, SCALES, own), message);
      }
    },
  );
}

testEachBackend(
  "roundToTable() and roundToSteps() take scales of groups of columns",
  async (subject) => {
    const narrow = { ...grid, groupCols: 32 }, scales = new Float32Array(48).map((_, g) => 1 + g);
    const x = Float32Array.from({ length: 6 * 256 }, (_, i) => (i % 64) - 31);
    for (const bits of [4, 6] as const) {
      const tables = levelTables(groupedLevels({ bits, groupCols: 16 }), take);
      const { codes, choices } = await round(subject, x, scales, tables.rounding!, narrow);
      const again = subject.output(new Int8Array(), x.length);
      await subject.kernels.quantizeLevels(again, subject.input(x), subject.input(scales), narrow, {
        groupCols: 16,
        nearest: subject.input(tables.nearest),
        choices: subject.input(choices),
      });
      assert.deepEqual(codes, again);
    }
  },
);

interface LevelCase {
  bits: 4 | 6;
  groupCols: number;
  x: Packed<"f32">;
  scales: Packed<"f32">;
  first: Packed<"u8">;
  choices: Packed<"u8">;
  codes: Packed<"i8">;
  packed: Packed<"u8">;
}

for (const { name, bits, groupCols, ...packed } of readVectors<LevelCase>("levels")) {
  testEachBackend(`kernels of few levels give the golden data: ${name}`, async (subject) => {
    const tables = levelTables(groupedLevels({ bits, groupCols }), take);
    const x = unpack(packed.x),
      scales = unpack(packed.scales),
      on = { ...grid, rows: 2, cols: 512 };
    const rounding = { ...tables.rounding!, first: unpack(packed.first) };
    const wide = { ...on, groupCols: 512 };
    const { codes, choices } = await round(subject, x, scales, rounding, wide);
    assert.deepEqual(choices.slice(), unpack(packed.choices));
    assert.deepEqual(codes.slice(), unpack(packed.codes));
    const again = subject.output(new Int8Array(), x.length);
    const sets = {
      groupCols,
      nearest: subject.input(tables.nearest),
      choices: subject.input(choices),
    };
    await subject.kernels.quantizeLevels(
      again,
      subject.input(x),
      subject.input(scales),
      wide,
      sets,
    );
    assert.deepEqual(again.slice(), unpack(packed.codes));
    const bytes = subject.output(new Uint8Array(), x.length * bits / 8);
    await subject.kernels.packLevels(bytes, again, {
      ...{ bits, cols: 512, groupCols, choices: sets.choices },
      codes: subject.input(tables.codes),
    });
    assert.deepEqual(bytes.slice(), unpack(packed.packed));
  });
}
