import assert from "node:assert/strict";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { groupedLevels, levelsOf, levelTables } from "../../src/quant/level_grid.ts";
import { normal } from "../kernels/values.ts";

const take = (count: number) => new Uint8Array(count);

/** Squared error of the levels of a set that are nearest to values in units of their scale. */
function errorOf(levels: readonly number[], values: Float32Array): number {
  return values.reduce(
    (sum, value) => sum + Math.min(...levels.map((level) => (value - level) ** 2)),
    0,
  );
}

for (const bits of [4, 6] as const) {
  for (const groupCols of [16, 32, 64, 128, 256]) {
    Deno.test(`levelTables() lets groups of ${groupCols} choose nearly as well as among all sets: ${bits} bits`, () => {
      const scheme = groupedLevels({ bits, groupCols }), { rounding } = levelTables(scheme, take);
      const cols = 2048, rows = groupCols === 16 ? 2 : 4, draw = normal(groupCols + bits);
      const grid = { rows, cols, groupRows: 1, groupCols: cols };
      const x = Float32Array.from({ length: rows * cols }, draw), scales = new Float32Array(rows);
      referenceKernels.absmax(scales, x, grid);
      referenceKernels.scaleFromAbsmax(scales, scales);
      const codes = new Int8Array(x.length), choices = new Uint8Array(x.length / groupCols);
      assert(rounding !== null);
      if (rounding.kind === "table") {
        referenceKernels.roundToTable(codes, choices, x, scales, grid, rounding);
      } else referenceKernels.roundToSteps(codes, choices, x, scales, grid, rounding);
      const sets = Array.from({ length: 127 }, (_, set) => levelsOf(scheme, set));
      let found = 0, best = 0;
      choices.forEach((set, g) => {
        const at = g * groupCols, scale = scales[Math.floor(at / cols)]!;
        const values = x.subarray(at, at + groupCols).map((value) => value / scale);
        found += errorOf(sets[set]!, values);
        best += Math.min(...sets.map((levels) => errorOf(levels, values)));
      });
      // Whole steps, by which sets of 16 levels are chosen, cost more than that four sets are tried.
      const most = bits === 4 ? { 16: 1.025, 32: 1.01 }[groupCols] ?? 1.01 : 1.01;
      assert(found <= most * best, `${found / best} of the least error`);
    });
  }
}

Deno.test("levelTables() gives every level of every set a code that stands for it", () => {
  for (const bits of [4, 6] as const) {
    const scheme = groupedLevels({ bits, groupCols: 16 }), { codes } = levelTables(scheme, take);
    assert(scheme.kind === "scaled");
    for (let set = 0; set < 127; set++) {
      const levels = levelsOf(scheme, set);
      for (const level of levels) {
        const index: number = codes[set * 256 + level + 128]! - scheme.firstCode;
        assert.equal(levels[index], level, `set ${set}, level ${level}`);
      }
    }
  }
});
