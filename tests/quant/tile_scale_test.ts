import assert from "node:assert/strict";
import fc from "fast-check";
import type { Grid } from "../../src/backend/backend.ts";
import { addColumnErrors } from "../../src/quant/column_importance.ts";
import { searchTileScales } from "../../src/quant/tile_scale.ts";
import { uniform } from "../kernels/values.ts";
import { weights } from "../linalg/matrices.ts";

/** The cost of a scale in one tile, by the definition. */
function costOf(s: number, w: Float32Array, energies: Float64Array): number {
  let cost = 0;
  w.forEach((x, i) => {
    const over = Math.max(0, Math.abs(x) - 127 * s);
    cost += energies[i % energies.length]! * (s * s / 12 + over * over);
  });
  return cost;
}

Deno.test("searchTileScales() finds a scale within a tenth of the least cost", () => {
  fc.assert(fc.property(fc.nat(), fc.integer({ min: 1, max: 9 }), (seed, rows) => {
    const cols = 24, next = uniform(seed), w = weights(seed, rows * cols);
    w[0] = 0.5;
    const energies = Float64Array.from({ length: cols }, () => next() ** 4);
    const scales = new Float32Array(1);
    searchTileScales(scales, w, { rows, cols, groupRows: rows, groupCols: cols }, energies);
    let least = Infinity;
    const largest = w.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127;
    for (let factor = 1; factor > 0.1; factor *= 0.99) {
      least = Math.min(least, costOf(largest * factor, w, energies));
    }
    const cost = costOf(scales[0]!, w, energies);
    assert(cost <= 1.1 * least, `seed ${seed}: cost ${cost}, least ${least}`);
  }));
});

Deno.test("searchTileScales() weighs every tile by the energies of its columns", () => {
  const grid: Grid = { rows: 4, cols: 8, groupRows: 2, groupCols: 4 };
  const w = new Float32Array(32).fill(0.01);
  for (const at of [0, 4, 16 + 1, 16 + 5]) w[at] = 1; // one large weight per tile
  const scales = new Float32Array(4);
  searchTileScales(scales, w, grid, Float64Array.of(0, 1, 1, 1, 1, 1, 1, 1));
  const full = Math.fround(1 / 127);
  assert(scales[0]! < 0.2 * full, "nothing is lost if column 0 is clipped");
  for (const tile of [1, 2, 3]) assert(scales[tile]! > 0.9 * full, `tile ${tile}`);
});

Deno.test("searchTileScales() leaves tiles of zeros alone", () => {
  const scales = Float32Array.of(7, 7), w = new Float32Array(8).fill(0.5, 4);
  const grid: Grid = { rows: 4, cols: 2, groupRows: 2, groupCols: 2 };
  searchTileScales(scales, w, grid, Float64Array.of(1, 1));
  assert.equal(scales[0], 7);
  assert.notEqual(scales[1], 7);
});

Deno.test("addColumnErrors() times energies is the order of energies, but for columns that will be clipped", () => {
  const rows = 512, cols = 64;
  const w = weights(3, rows * cols).map((x) => Math.max(-0.05, Math.min(0.05, x)));
  const energies = Float64Array.from({ length: cols }, (_, c) => 1 + c / cols);
  w[5 * cols + 2] = 5;
  const grid: Grid = { rows, cols, groupRows: rows, groupCols: cols };
  const scales = new Float32Array(1), errors = new Float64Array(cols);
  searchTileScales(scales, w, grid, energies);
  addColumnErrors(errors, w, grid, scales);
  const whole = errors.map((error, c) => error * energies[c]!);
  const order = [...whole.keys()].sort((a, b) => whole[b]! - whole[a]!);
  assert.equal(order[0], 2);
  const byEnergy = Array.from({ length: cols }, (_, k) => cols - 1 - k).filter((c) => c !== 2);
  assert.deepEqual(order.slice(1), byEnergy);
});
