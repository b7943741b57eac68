import assert from "node:assert/strict";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import {
  HISTOGRAM_BINS,
  histogramBinsPerUnit,
  searchScaleFromHistogram,
} from "../../src/quant/scale_search.ts";

/** Bell-shaped values of deviation 1, the same every time. */
function bell(count: number): Float32Array {
  let state = 7;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const unit = Math.sqrt(3);
  return Float32Array.from({ length: count }, () => (next() + next() + next() + next() - 2) * unit);
}

function search(x: Float32Array): { start: number; found: number } {
  const absmax = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const counts = new Uint32Array(HISTOGRAM_BINS);
  referenceKernels.histogram(counts, x, histogramBinsPerUnit(absmax));
  return { start: Math.fround(absmax / 127), found: searchScaleFromHistogram(counts, absmax) };
}

/** Root of the mean squared error with the codes of the quantize kernel. */
function rmsError(x: Float32Array, scale: number): number {
  const grid = { rows: 1, cols: x.length, groupRows: 1, groupCols: x.length };
  const codes = new Int8Array(x.length);
  referenceKernels.quantize(codes, x, new Float32Array([scale]), grid);
  return Math.sqrt(
    x.reduce((sum, value, i) => sum + (value - codes[i]! * scale) ** 2, 0) / x.length,
  );
}

Deno.test("searchScaleFromHistogram() halves the error of a tensor with rare outliers", () => {
  const x = bell(600_000);
  x[12_345] = 100;
  const { start, found } = search(x);
  const ratio = rmsError(x, found) / rmsError(x, start);
  assert(ratio < 0.55, `error falls to ${ratio}`);
});

Deno.test("searchScaleFromHistogram() comes close to the best of many scales tried on the values", () => {
  const x = bell(60_000);
  for (let k = 0; k < 60; k++) x[k * 1000] = x[k * 1000]! * (5 + k / 4);
  const { start, found } = search(x);
  let best = Infinity;
  for (let factor = 1; factor > 0.05; factor *= 0.97) {
    best = Math.min(best, rmsError(x, Math.fround(start * factor)));
  }
  const error = rmsError(x, found);
  assert(error < best * 1.005, `error ${error}, best ${best}`);
  assert(found <= start);
});

Deno.test("searchScaleFromHistogram() keeps absmax / 127 if clipping gains nothing", () => {
  const two = Float32Array.from({ length: 1000 }, (_, i) => i % 2 === 0 ? 0.7 : -0.7);
  const { start, found } = search(two);
  assert.equal(found, start);
  const counts = new Uint32Array(HISTOGRAM_BINS);
  assert.equal(searchScaleFromHistogram(counts, 0), Math.fround(1e-30), "an all-zero tensor");
});

Deno.test("searchScaleFromHistogram() takes sums of histograms beyond 2^32 values", () => {
  const x = bell(20_000);
  x[5] = 100;
  const counts = new Uint32Array(HISTOGRAM_BINS);
  referenceKernels.histogram(counts, x, histogramBinsPerUnit(100));
  const once = searchScaleFromHistogram(counts, 100);
  const often = searchScaleFromHistogram(
    Float64Array.from(counts, (count) => count * 2 ** 20),
    100,
  );
  assert.equal(often, once, "the scale depends on proportions only");
});

Deno.test("searchScaleFromHistogram() rejects an absmax that is none, and too few bins", () => {
  const counts = new Uint32Array(HISTOGRAM_BINS);
  for (const absmax of [NaN, -1, Infinity]) {
    assert.throws(() => searchScaleFromHistogram(counts, absmax), /Cannot search scale: absmax is/);
  }
  assert.throws(() => searchScaleFromHistogram(new Uint32Array(100), 1), /100 bins, needs 8192/);
});
