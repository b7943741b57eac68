import assert from "node:assert/strict";
import type { Grid } from "../../src/backend/backend.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import type { Hessian } from "../../src/linalg/hessian.ts";
import { hessianFromChannels } from "../../src/linalg/hessian_sources.ts";
import { searchCompensatedScales } from "../../src/quant/compensated_scale.ts";
import { gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import { put, testEachContext } from "../linalg/contexts.ts";
import { outputError, positiveDefinite, weights } from "../linalg/matrices.ts";

const OPTIONS = { actOrder: true, damping: 0.01 };

/** A Hessian of correlated channels of equal energy, but for outliers `factor` times as large. */
function withOutliers(n: number, outliers: readonly number[], factor: number): Float64Array {
  const h = new Float64Array(n * n), base = positiveDefinite(1, n);
  const scale = Float64Array.from({ length: n }, (_, i) => {
    return (outliers.includes(i) ? factor : 1) / Math.sqrt(base[i * (n + 1)]!);
  });
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) h[i * n + j] = base[i * n + j]! * scale[i]! * scale[j]!;
  }
  return h;
}

function prepare(context: LinalgContext, h: Float64Array, n: number) {
  const values = put(context.memory, h);
  const hessian: Hessian = { size: n, blockSize: n, values, source: "hessian" };
  return prepareGptq(context, hessian, OPTIONS);
}

/** absmax / 127 of every group. */
function plainScales(w: Float32Array, grid: Grid): Float32Array {
  const { rows, cols, groupRows, groupCols } = grid;
  const across = cols / groupCols, scales = new Float32Array((rows / groupRows) * across);
  w.forEach((x, i) => {
    const row = Math.floor(i / cols / groupRows), col = Math.floor((i % cols) / groupCols);
    scales[row * across + col] = Math.max(scales[row * across + col]!, Math.abs(x) / 127);
  });
  return scales;
}

for (const groupCols of [96, 32]) {
  testEachContext(
    `searchCompensatedScales() lowers the error if channels dominate runs of ${groupCols}`,
    (context) => {
      const n = 96, rows = 60, w = weights(2, rows * n);
      const grid: Grid = { rows, cols: n, groupRows: 1, groupCols };
      const h = withOutliers(n, [5, 40, 77], 20), factor = prepare(context, h, n);
      const errorOf = (scales: Float32Array) => {
        const errors = put(context.memory, w), codes = context.memory.i8(w.length);
        gptqRows(context, factor, {
          weights: errors,
          codes,
          firstRow: 0,
          grid,
          scales: put(context.memory, scales),
        });
        return outputError(errors.slice(), h, n);
      };
      const plain = plainScales(w, grid), found = plain.slice();
      searchCompensatedScales(factor, found, w, grid);
      const ratio = errorOf(found) / errorOf(plain);
      assert(ratio < 0.7, `squared output error ${ratio} of that of plain scales`);
      found.forEach((scale, i) => {
        assert(scale > 0.8 * plain[i]! && scale < 1.2 * plain[i]!, `scale ${i}`);
      });
    },
  );
}

testEachContext("searchCompensatedScales() leaves rows if no channel dominates", (context) => {
  const n = 64, rows = 5, w = weights(3, rows * n);
  const grid: Grid = { rows, cols: n, groupRows: 1, groupCols: n };
  const scales = plainScales(w, grid).map((s) => s * 0.9), before = scales.slice();
  searchCompensatedScales(prepare(context, withOutliers(n, [], 1), n), scales, w, grid);
  assert.deepEqual(scales, before);
});

testEachContext(
  "searchCompensatedScales() leaves all scales if nothing is compensated",
  (context) => {
    const n = 8, w = weights(4, 2 * n), scales = Float32Array.of(3, 4);
    const diagonal = hessianFromChannels(new Float32Array(n).fill(1), context.memory.f64(n));
    const factor = prepareGptq(context, diagonal, OPTIONS);
    searchCompensatedScales(factor, scales, w, { rows: 2, cols: n, groupRows: 1, groupCols: n });
    assert.deepEqual([...scales], [3, 4]);
  },
);

testEachContext("searchCompensatedScales() keeps the scale of a row of zeros", (context) => {
  const n = 64, w = weights(5, 2 * n).fill(0, n), scales = Float32Array.of(1, 1e-30);
  const factor = prepare(context, withOutliers(n, [9], 30), n);
  searchCompensatedScales(factor, scales, w, { rows: 2, cols: n, groupRows: 1, groupCols: n });
  assert.notEqual(scales[0], 1);
  assert.equal(scales[1], Math.fround(1e-30));
});

testEachContext("searchCompensatedScales() works on a factor of several blocks", (context) => {
  const n = 64, rows = 6, w = weights(7, rows * n), values = context.memory.f64(n * 16);
  for (let index = 0; index < 4; index++) {
    values.set(withOutliers(16, index === 2 ? [3] : [], 40), index * 256);
  }
  const hessian: Hessian = { size: n, blockSize: 16, values, source: "hessian" };
  const factor = prepareGptq(context, hessian, OPTIONS);
  const grid: Grid = { rows, cols: n, groupRows: 1, groupCols: 16 };
  const plain = plainScales(w, grid), found = plain.slice();
  searchCompensatedScales(factor, found, w, grid);
  for (let i = 0; i < found.length; i++) {
    assert.equal(found[i] === plain[i], i % 4 !== 2, `group ${i}`);
  }
});
