import assert from "node:assert/strict";
import type { Grid } from "../../src/backend/backend.ts";
import { groupedLevels, levelsOf, levelTables } from "../../src/quant/level_grid.ts";
import { assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { normal, values } from "./values.ts";

const take = (count: number) => new Uint8Array(count);
const grid: Grid = { rows: 6, cols: 256, groupRows: 1, groupCols: 256 };
const SCHEMES = [[4, 16], [4, 64], [6, 16]] as const;

for (const [bits, groupCols] of SCHEMES) {
  const scheme = groupedLevels({ bits, groupCols }), name = `${bits} bits, groups of ${groupCols}`;
  const tables = levelTables(scheme, take), groups = grid.rows * grid.cols / groupCols;

  testEachBackend(`searchLevels() finds the best of all sets: ${name}`, async (subject) => {
    const draw = normal(bits + groupCols);
    const x = Float32Array.from({ length: grid.rows * grid.cols }, () => 30 * draw());
    const scales = new Float32Array(grid.rows);
    referenceScales(x, scales);
    const choices = subject.output(new Uint8Array(), groups);
    const own = {
      ...tables,
      nearest: subject.input(tables.nearest),
      first: subject.input(tables.first),
    };
    await subject.kernels.searchLevels(choices, subject.input(x), subject.input(scales), grid, own);
    let chosen = 0, best = 0;
    choices.forEach((set, g) => {
      const values = x.subarray(g * groupCols, (g + 1) * groupCols);
      const scale = scales[Math.floor(g * groupCols / grid.cols)]!;
      const errors = Array.from({ length: 126 }, (_, s) => errorOf(s + 1, values, scale));
      chosen += errors[set - 1]!;
      best += Math.min(...errors);
    });
    // Candidates are few: steps far from the largest value are seldom best.
    assert(chosen <= 1.02 * best, `${chosen / best} of the least error`);
  });

  Deno.test(`searchLevels() gives the same on every backend: ${name}`, async () => {
    for (const flavor of ["plain", "nasty", "outlier", "sparse"] as const) {
      const x = values(9, grid.rows * grid.cols, flavor);
      await assertSameOnAllBackends(flavor, async (subject) => {
        const choices = subject.output(new Uint8Array(), groups);
        const scales = subject.input(Float32Array.of(1, 0.01, 0.3, 1e-30, 0, 7));
        await subject.kernels.searchLevels(choices, subject.input(x), scales, grid, {
          ...tables,
          nearest: subject.input(tables.nearest),
          first: subject.input(tables.first),
        });
        return [choices];
      });
    }
  });

  const errorOf = (set: number, values: Float32Array, scale: number): number => {
    const levels = levelsOf(scheme, set);
    return values.reduce((sum, value) => {
      const error = Math.min(...levels.map((level) => Math.abs(value / scale - level)));
      return sum + error * error;
    }, 0);
  };
}

/** The scales of the largest values. */
function referenceScales(x: Float32Array, scales: Float32Array): void {
  for (let r = 0; r < grid.rows; r++) {
    const row = x.subarray(r * grid.cols, (r + 1) * grid.cols);
    scales[r] = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
  }
}
