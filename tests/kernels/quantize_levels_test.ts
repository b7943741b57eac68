import assert from "node:assert/strict";
import type { Grid } from "../../src/backend/backend.ts";
import { groupedLevels, levelsOf, levelTables } from "../../src/quant/level_grid.ts";
import { assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { normal, uniform, values } from "./values.ts";

const SCHEMES = [
  groupedLevels({ bits: 4, groupCols: 16 }),
  groupedLevels({ bits: 4, groupCols: 64 }),
  groupedLevels({ bits: 6, groupCols: 16 }),
  { kind: "int4", bits: 4 },
] as const;

const take = (count: number) => new Uint8Array(count);
const grid: Grid = { rows: 5, cols: 192, groupRows: 1, groupCols: 192 };

for (const scheme of SCHEMES) {
  const tables = levelTables(scheme, take), sets = tables.nearest.length / 512;
  const name = scheme.kind === "int4"
    ? "integers to 7"
    : `${scheme.bits} bits in groups of ${scheme.groupCols}`;
  const next = uniform(5), draw = normal(6);
  const choices = Uint8Array.from(
    { length: grid.rows * grid.cols / tables.groupCols },
    () => Math.floor(next() * sets),
  );
  const x = Float32Array.from({ length: grid.rows * grid.cols }, () => 40 * draw());
  x.set([NaN, Infinity, -Infinity, 0, -0, 1e-45, 3e38], 7);
  const scales = Float32Array.from([1, 0.75, 3, 1e-30, 0]);

  testEachBackend(`quantizeLevels() takes the nearest level: ${name}`, async (subject) => {
    const codes = subject.output(new Int8Array(), x.length);
    const own = {
      groupCols: tables.groupCols,
      nearest: subject.input(tables.nearest),
      choices: subject.input(choices),
    };
    await subject.kernels.quantizeLevels(codes, subject.input(x), subject.input(scales), grid, own);
    codes.forEach((code, i) => {
      const set = choices[Math.floor(i / tables.groupCols)]!, levels = levelsOf(scheme, set);
      const t = x[i]! / scales[Math.floor(i / grid.cols)]!;
      const wanted = Number.isNaN(t) ? 0 : Math.max(-1000, Math.min(1000, t));
      assert(levels.includes(code), `${i}: ${code} is no level of set ${set}`);
      const least = Math.min(...levels.map((level) => Math.abs(level - wanted)));
      // Rounding to 1/32 of a scale first decides what is within half of that of a middle.
      assert(Math.abs(code - wanted) <= least + 1 / 32, `${i}: ${code} for ${wanted}`);
    });
  });

  Deno.test(`quantizeLevels() gives the same on every backend: ${name}`, async () => {
    for (const flavor of ["plain", "nasty", "outlier"] as const) {
      const x = values(3, grid.rows * grid.cols, flavor);
      await assertSameOnAllBackends(flavor, async (subject) => {
        const codes = subject.output(new Int8Array(), x.length);
        const own = {
          groupCols: tables.groupCols,
          nearest: subject.input(tables.nearest),
          choices: subject.input(choices),
        };
        const by = subject.input(scales.map((scale) => scale / 64));
        await subject.kernels.quantizeLevels(codes, subject.input(x), by, grid, own);
        return [codes];
      });
    }
  });
}

testEachBackend("quantizeLevels() takes scales of groups of 16 columns", async (subject) => {
  const tables = levelTables({ kind: "int4", bits: 4 }, take);
  const narrow = { ...grid, groupCols: 16 }, groups = 5 * 12;
  const x = Float32Array.from({ length: 5 * 192 }, (_, i) => i % 16 - 8);
  const scales = Float32Array.from({ length: groups }, (_, g) => 1 + g);
  const codes = subject.output(new Int8Array(), x.length);
  await subject.kernels.quantizeLevels(codes, subject.input(x), subject.input(scales), narrow, {
    ...tables,
    nearest: subject.input(tables.nearest),
    choices: subject.input(new Uint8Array(groups)),
  });
  codes.forEach((code, i) => {
    const t = x[i]! / scales[Math.floor(i / 16)]!;
    assert(Math.abs(code - Math.max(-7, Math.min(7, t))) <= 0.5 + 1 / 64, `${i}: ${code}, ${t}`);
  });
});

testEachBackend("quantizeLevels() refuses sets that are not there", (subject) => {
  const tables = levelTables({ kind: "int4", bits: 4 }, take);
  const x = new Float32Array(16), one = { rows: 1, cols: 16, groupRows: 1, groupCols: 16 };
  const codes = subject.output(new Int8Array(), 16), scales = subject.input(Float32Array.of(1));
  const call = async (more: object) =>
    await subject.kernels.quantizeLevels(codes, subject.input(x), scales, one, {
      ...tables,
      choices: Uint8Array.of(0),
      ...more,
    });
  return assert.rejects(call({ choices: Uint8Array.of(1) }), /set 1 is not among the 1/)
    .then(() => assert.rejects(call({ groupCols: 8 }), /no multiple of 16/))
    .then(() => assert.rejects(call({ choices: new Uint8Array(2) }), /choices has 2 elements/));
});
