import assert from "node:assert/strict";
import fc from "fast-check";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { cholesky } from "../../src/linalg/cholesky.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { ldlq, type LdlqRows, roundRowsToNearest, wholeFactor } from "../../src/linalg/ldlq.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { put, referenceContext, testEachContext, wasmContext } from "./contexts.ts";
import { outputError, plainLdlq, positiveDefinite, weights } from "./matrices.ts";

/** Rounds `w` of `n` columns on `h`; scales of `groupRows` rows by `groupCols` columns. */
function round(
  context: LinalgContext,
  w: Float32Array,
  h: Float64Array,
  n: number,
  scales: Float32Array,
  groupRows: number,
  groupCols: number,
): { codes: Int8Array; errors: Float32Array } {
  const { memory } = context;
  const factor = matrix(put(memory, h), n, n), errors = put(memory, w), codes = memory.i8(w.length);
  assert.equal(cholesky(context, factor, 0), -1);
  ldlq(context, wholeFactor(factor), {
    weights: matrix(errors, w.length / n, n),
    codes,
    codesRowStride: n,
    scales: put(memory, scales),
    scaleCols: n / groupCols,
    groupRows,
    firstRow: 0,
    columnGroups: put(memory, Int32Array.from({ length: n }, (_, j) => Math.floor(j / groupCols))),
  });
  return { codes, errors };
}

const GRIDS = [
  { name: "row", groupRows: 1, groupCols: 0 },
  { name: "tensor", groupRows: 64, groupCols: 0 },
  { name: "2-D block", groupRows: 8, groupCols: 32 },
  { name: "row by group", groupRows: 1, groupCols: 32 },
];

for (const grid of GRIDS) {
  testEachContext(
    `ldlq() gives the codes of column-by-column f64 rounding by ${grid.name}`,
    (context) => {
      const n = 160, rows = 24, { groupRows } = grid, groupCols = grid.groupCols || n;
      const h = positiveDefinite(1, n), w = weights(2, rows * n);
      const across = n / groupCols, down = Math.ceil(rows / groupRows);
      const scales = Float32Array.from(
        { length: down * across },
        (_, i) => 0.0008 * (1 + i % 7 / 7),
      );
      const { codes, errors } = round(context, w, h, n, scales, groupRows, groupCols);
      const scaleOf = (r: number, c: number) =>
        scales[Math.floor(r / groupRows) * across + Math.floor(c / groupCols)]!;
      const want = plainLdlq(w, h, n, scaleOf);
      assert.deepEqual(codes.slice(), want);
      errors.forEach((error, i) => {
        const scale = scaleOf(Math.floor(i / n), i % n);
        assert.equal(error, Math.fround(w[i]! - Math.fround(codes[i]! * scale)), `error at ${i}`);
      });
    },
  );
}

Deno.test("ldlq() differs from column-by-column f64 rounding in fewer than 1 of 10,000 codes", () => {
  const n = 512, rows = 128, h = positiveDefinite(3, n), w = weights(4, rows * n);
  const scale = 0.0007, mark = wasmContext.memory.mark();
  const scales = new Float32Array(rows).fill(scale);
  const { codes } = round(wasmContext, w, h, n, scales, 1, n);
  const want = plainLdlq(w, h, n, () => Math.fround(scale));
  const different = want.filter((code, i) => code !== codes[i]).length;
  assert(different < 1e-4 * want.length, `${different} of ${want.length} codes differ`);
  wasmContext.memory.release(mark);
});

Deno.test("ldlq() gives the same bits on every backend, and for any split of the rows", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 140 }), fc.nat(11), (seed, n, rows) => {
      const h = positiveDefinite(seed, n), w = weights(seed, rows * n);
      const scales = Float32Array.from({ length: rows }, (_, r) => 0.001 + r * 1e-5);
      const mark = wasmContext.memory.mark();
      const want = round(referenceContext, w, h, n, scales, 1, n);
      const whole = round(wasmContext, w, h, n, scales, 1, n);
      const top = Math.floor(rows / 3);
      const parts = [[0, top], [top, rows]].map(([from, to]) =>
        round(wasmContext, w.subarray(from! * n, to! * n), h, n, scales.subarray(from), 1, n)
      );
      assertSameBits(whole.codes, want.codes, "codes");
      assertSameBits(whole.errors, want.errors, "errors");
      const joined = parts.flatMap((part) => [...part.codes]);
      assertSameBits(Int8Array.from(joined), want.codes, "codes of two parts");
      wasmContext.memory.release(mark);
    }),
    { numRuns: 25 },
  );
});

testEachContext(
  "ldlq() with a diagonal Hessian, and roundRowsToNearest(), round to nearest",
  (context) => {
    const n = 150, rows = 9, w = weights(6, rows * n);
    w.set([0.0005, -0.0015, 0.0025, 10, -10, 0, -0]);
    const h = new Float64Array(n * n);
    for (let j = 0; j < n; j++) h[j * n + j] = 1 + j % 7;
    const scales = new Float32Array(rows).fill(0.001);
    const want = new Int8Array(w.length), errors = put(context.memory, w);
    const grid = { rows, cols: n, groupRows: 1, groupCols: n };
    referenceKernels.quantize(want, w, scales, grid);
    assertSameBits(round(context, w, h, n, scales, 1, n).codes, want, "ldlq");
    const plain: LdlqRows = {
      weights: matrix(errors, rows, n),
      codes: context.memory.i8(w.length),
      codesRowStride: n,
      scales: put(context.memory, scales),
      scaleCols: 1,
      groupRows: 1,
      firstRow: 0,
      columnGroups: put(context.memory, new Int32Array(n)),
    };
    roundRowsToNearest(context, plain);
    assertSameBits(plain.codes.slice(), want, "roundRowsToNearest");
  },
);

testEachContext("ldlq() lowers the output error of rounding to nearest", (context) => {
  const n = 96, rows = 32, h = positiveDefinite(7, n), w = weights(8, rows * n);
  const scales = new Float32Array(rows).fill(0.01);
  const { errors } = round(context, w, h, n, scales, 1, n);
  const nearest = w.map((x) => x - Math.round(x / 0.01) * 0.01);
  const ratio = outputError(errors, h, n) / outputError(nearest, h, n);
  assert(ratio < 0.7, `squared output error ${ratio} of that of rounding to nearest`);
});

testEachContext("ldlq() rejects weights of other columns than its factor", (context) => {
  const factor = wholeFactor(matrix(context.memory.f64(4), 2, 2));
  const layer: LdlqRows = {
    weights: matrix(context.memory.f32(3), 1, 3),
    codes: context.memory.i8(3),
    codesRowStride: 3,
    scales: context.memory.f32(1),
    scaleCols: 1,
    groupRows: 1,
    firstRow: 0,
    columnGroups: context.memory.i32(3),
  };
  assert.throws(() => ldlq(context, factor, layer), {
    name: "RangeError",
    message: "Cannot round rows: weights have 3 columns, columnGroups 3, the factor 2",
  });
});
