import assert from "node:assert/strict";
import { STATS, STATS_LENGTH } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import {
  foldNumbers,
  layerErrors,
  nonFiniteOf,
  numbersOf,
  overallErrors,
  setNonFinite,
  SLOT,
  SLOT_LENGTH,
  slotsIn,
  worstLayersFirst,
} from "../../src/run/layer_statistics.ts";

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

Deno.test("layerErrors() has no SQNR if there is no error, also among zeros", () => {
  for (const x of [[1, -2], [0, 0], []]) {
    const { relativeError, sqnrDb, cosine, mse } = layerErrors(statsOf(x, x));
    assert.deepEqual([relativeError, sqnrDb, mse], [0, null, 0]);
    assert(Math.abs(cosine - 1) < 1e-12);
  }
});

Deno.test("layerErrors() survives JSON if the source is zero or a value is NaN", () => {
  for (const stats of [statsOf([0, 0], [1, 0]), statsOf([1, NaN], [1, 2])]) {
    const errors = layerErrors(stats);
    assert.deepEqual(JSON.parse(JSON.stringify(errors)), errors);
    assert.equal(errors.relativeError, Number.MAX_VALUE);
    assert(errors.sqnrDb! <= -1000);
  }
});

Deno.test("overallErrors() adds sums and keeps the largest error", () => {
  const parts = [statsOf([1, 2], [1, 0]), statsOf([5], [4])];
  const whole = statsOf([1, 2, 5], [1, 0, 4]);
  assert.deepEqual([...foldNumbers("compare", parts)], [...whole]);
  assert.equal(whole[STATS.maxAbsError], 2);
  assert.deepEqual(overallErrors(parts.map((stats) => ({ stats }))), layerErrors(whole));
  assert.equal(overallErrors([]), null);
});

Deno.test("slots of quantized and compared layers begin with what the kernels add to", () => {
  for (const kind of ["quantize", "compare"] as const) {
    assert.deepEqual({ ...SLOT[kind], ...STATS }, { ...SLOT[kind] });
    assert.deepEqual(Object.values(SLOT[kind]).slice(0, STATS_LENGTH), Object.values(STATS));
  }
});

Deno.test("foldNumbers() folds every number of a slot in its own way", () => {
  const slots = new Float64Array(3 * SLOT_LENGTH);
  const [a, b, c] = slotsIn(slots);
  const { rowsToNearest, maxAbsError, count } = SLOT.quantize;
  for (
    const [slot, rows, most, elements] of [[a, 1, 3, 10], [b, 2, 7, 20], [c, 4, 2, 5]] as const
  ) {
    slot![rowsToNearest] = rows;
    slot![maxAbsError] = most;
    slot![count] = elements;
  }
  const found = numbersOf("quantize", foldNumbers("quantize", slotsIn(slots)));
  assert.deepEqual([found.rowsToNearest, found.maxAbsError, found.count], [7, 7, 35]);
});

Deno.test("foldNumbers() keeps the first place of values that cannot be used, also place 0", () => {
  for (const firsts of [[0, 7], [7, 0], [9, 3]]) {
    const slots = new Float64Array(3 * SLOT_LENGTH); // the last chunk has none
    [...slotsIn(slots)].slice(0, 2).forEach((slot, i) =>
      setNonFinite("scan", slot, { count: 2, first: firsts[i]! })
    );
    const found = nonFiniteOf("scan", foldNumbers("scan", slotsIn(slots)));
    assert.deepEqual(found, { count: 4, first: Math.min(...firsts) });
  }
  const none = foldNumbers("cast", slotsIn(new Float64Array(2 * SLOT_LENGTH)));
  assert.deepEqual(nonFiniteOf("cast", none), { count: 0, first: -1 });
});

Deno.test("worstLayersFirst() sorts by relative error, what has no bound first", () => {
  const layers = [[1, 1], [1, 0.5], [0, 1]].map(([x, y]) => ({
    errors: layerErrors(statsOf([x!], [y!])),
  }));
  const order = worstLayersFirst(layers).map((layer) => layers.indexOf(layer));
  assert.deepEqual(order, [2, 1, 0]);
});
