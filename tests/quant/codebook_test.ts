import assert from "node:assert/strict";
import { addValue, emptyHistogram, fitCodebook, fitLevels } from "../../src/quant/codebook.ts";
import { DEFAULT_CODEBOOK, groupedLevels } from "../../src/quant/level_grid.ts";

/** The levels above 0 of the 16 that lose least of a normal value, in standard deviations (Max, 1960). */
const MAX_1960 = [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733];

Deno.test("fitLevels() finds the levels of Lloyd and Max for normal values", () => {
  const histogram = emptyHistogram(), unit = 3.6;
  for (let i = -10_240; i < 10_240; i++) {
    const value = 1.28 * (i + 0.5) / 10_240;
    addValue(histogram, value, Math.exp(-((value * unit) ** 2) / 2));
  }
  const levels = fitLevels(histogram, DEFAULT_CODEBOOK);
  MAX_1960.forEach((want, i) => {
    assert(Math.abs(levels[8 + i]! * unit - want) < 0.01, `${levels[8 + i]! * unit}, ${want}`);
    assert(Math.abs(levels[7 - i]! * unit + want) < 0.01, `${levels[7 - i]! * unit}, -${want}`);
  });
});

Deno.test("fitLevels() counts values by their weights, and goes to those that there are", () => {
  const histogram = emptyHistogram();
  addValue(histogram, 0.5, 3);
  addValue(histogram, 0.504, 1);
  const levels = fitLevels(histogram, DEFAULT_CODEBOOK);
  // A bin is 1/800 wide.
  assert(levels.some((level) => Math.abs(level - 0.501) < 2e-3), `${levels}`);
  assert(levels.every((level, i) => i === 0 || level > levels[i - 1]!));
  assert.equal(levels[0], Math.fround(DEFAULT_CODEBOOK[0]!), "what nothing is nearest to stays");
});

Deno.test("fitLevels() keeps the levels it begins with if there is nothing, or nothing finite", () => {
  const f32 = DEFAULT_CODEBOOK.map(Math.fround);
  assert.deepEqual(fitLevels(emptyHistogram(), DEFAULT_CODEBOOK), f32);
  const odd = emptyHistogram();
  addValue(odd, NaN, 1);
  addValue(odd, Infinity, 1);
  assert.deepEqual(fitLevels(odd, DEFAULT_CODEBOOK).every(Number.isFinite), true);
});

Deno.test("fitCodebook() keeps the table of least error, the default one too", () => {
  const scheme = groupedLevels({ bits: 4, groupCols: 16, isFitted: true });
  assert(scheme.kind === "scaled");
  const histogram = emptyHistogram();
  for (let i = -20; i <= 20; i++) addValue(histogram, i / 20, 1);
  let round = 0;
  const worse = fitCodebook(scheme, () => ({ error: ++round, histogram }));
  assert.deepEqual(worse, DEFAULT_CODEBOOK);
  const better = fitCodebook(scheme, () => ({ error: 1 / ++round, histogram }));
  assert.notDeepEqual(better, DEFAULT_CODEBOOK);
});
