import assert from "node:assert/strict";
import { STATS, STATS_LENGTH } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { layerErrors, sumStats, worstLayersFirst } from "../../src/run/layer_errors.ts";

function statsOf(x: number[], xhat: number[]): Float64Array {
  const stats = new Float64Array(STATS_LENGTH);
  referenceKernels.errorStats(stats, new Float32Array(x), new Float32Array(xhat));
  return stats;
}

Deno.test("layerErrors() gives the measures of a small example", () => {
  const errors = layerErrors(statsOf([3, 4], [3, 3]));
  assert.equal(errors.relativeError, 1 / 5);
  assert.equal(errors.sqnrDb, 10 * Math.log10(25));
  assert(Math.abs(errors.cosine - 21 / (5 * Math.sqrt(18))) < 1e-12);
  assert.deepEqual([errors.maxAbsError, errors.mse], [1, 0.5]);
});

Deno.test("layerErrors() has no SQNR where there is no error, also among zeros", () => {
  for (const x of [[1, -2], [0, 0], []]) {
    const { relativeError, sqnrDb, cosine, mse } = layerErrors(statsOf(x, x));
    assert.deepEqual([relativeError, sqnrDb, mse], [0, null, 0]);
    assert(Math.abs(cosine - 1) < 1e-12);
  }
});

Deno.test("layerErrors() survives JSON where the source is zero or a value is NaN", () => {
  for (const stats of [statsOf([0, 0], [1, 0]), statsOf([1, NaN], [1, 2])]) {
    const errors = layerErrors(stats);
    assert.deepEqual(JSON.parse(JSON.stringify(errors)), errors);
    assert.equal(errors.relativeError, Number.MAX_VALUE);
    assert(errors.sqnrDb! <= -1000);
  }
});

Deno.test("sumStats() adds sums and keeps the largest error", () => {
  const sum = sumStats([statsOf([1, 2], [1, 0]), statsOf([5], [4])]);
  assert.deepEqual([...sum], [...statsOf([1, 2, 5], [1, 0, 4])]);
  assert.equal(sum[STATS.maxAbsError], 2);
});

Deno.test("worstLayersFirst() sorts by relative error, what has no bound first", () => {
  const layers = [[1, 1], [1, 0.5], [0, 1]].map(([x, y]) => ({
    errors: layerErrors(statsOf([x!], [y!])),
  }));
  const order = worstLayersFirst(layers).map((layer) => layers.indexOf(layer));
  assert.deepEqual(order, [2, 1, 0]);
});
