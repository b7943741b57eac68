import assert from "node:assert/strict";
import fc from "fast-check";
import { cholesky, restoreLower, SINGLE_ERROR, solveRows } from "../../src/linalg/cholesky.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { put, referenceContext, testEachContext, wasmContext } from "./contexts.ts";
import { plainCholesky, positiveDefinite } from "./matrices.ts";

testEachContext(
  "cholesky() gives the factor of the plain algorithm, and leaves what is above",
  (context) => {
    for (const n of [1, 2, 15, 16, 17, 127, 129, 150]) {
      const h = positiveDefinite(n, n), want = plainCholesky(h, n);
      const got = put(context.memory, h);
      assert.equal(cholesky(context, matrix(got, n, n), 0), -1);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          const value = got[i * n + j]!;
          if (j > i) assert.equal(value, h[i * n + j], `above the diagonal at ${i}, ${j}`);
          else assert(Math.abs(value - want[i * n + j]!) < 1e-10 * want[i * n + i]! + 1e-10);
        }
      }
    }
  },
);

testEachContext(
  "cholesky() with products in f32 factors what differs from H by SINGLE_ERROR at most",
  (context) => {
    const n = 300, h = positiveDefinite(3, n), got = put(context.memory, h);
    assert.equal(cholesky(context, matrix(got, n, n), 0, true), -1);
    let most = 0;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let k = 0; k <= j; k++) sum += got[i * n + k]! * got[j * n + k]!;
        const size = Math.sqrt(h[i * n + i]! * h[j * n + j]!);
        most = Math.max(most, Math.abs(sum - h[i * n + j]!) / size);
      }
    }
    assert(most <= SINGLE_ERROR, `${most}`);
    assert(most > 1e-10, "these are the bits of f64");
  },
);

const sizes = fc.oneof(
  { weight: 10, arbitrary: fc.integer({ min: 0, max: 70 }) },
  { weight: 1, arbitrary: fc.integer({ min: 129, max: 200 }) },
);

Deno.test("cholesky() gives the same bits on every backend", () => {
  fc.assert(
    fc.property(fc.nat(), sizes, fc.nat(3), fc.boolean(), (seed, n, gap, single) => {
      const h = positiveDefinite(seed, n), spread = new Float64Array(n * (n + gap));
      for (let i = 0; i < n; i++) spread.set(h.subarray(i * n, i * n + n), i * (n + gap));
      const [want, got] = [referenceContext, wasmContext].map((context) => {
        const mark = context.memory.mark(), values = put(context.memory, spread);
        assert.equal(cholesky(context, matrix(values, n, n, n + gap), 0, single), -1);
        context.memory.release(mark);
        return values.slice();
      });
      assertSameBits(got!, want!, `seed ${seed}, ${n} x ${n}`);
    }),
    { numRuns: 30 },
  );
});

testEachContext("cholesky() returns the first column that is not positive definite", (context) => {
  const n = 150;
  for (const bad of [0, 20, 140, 149]) {
    const h = put(context.memory, positiveDefinite(1, n));
    h[bad * n + bad] = -1;
    assert.equal(cholesky(context, matrix(h, n, n), 0), bad);
  }
  const nan = put(context.memory, positiveDefinite(1, n));
  nan[130 * n + 7] = NaN;
  assert.equal(cholesky(context, matrix(nan, n, n), 0), 130);
});

testEachContext("cholesky() finds a rank-deficient matrix by its least pivot", (context) => {
  const n = 40, h = context.memory.f64(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) h[i * n + j] = 1 + (i % 5) * (j % 5); // rank 2
  }
  assert.equal(cholesky(context, matrix(h, n, n), 1e-9), 2);
});

testEachContext("restoreLower() puts a factored matrix back", (context) => {
  const n = 75, h = positiveDefinite(4, n), values = put(context.memory, h);
  const diagonal = Float64Array.from({ length: n }, (_, i) => h[i * n + i]!);
  cholesky(context, matrix(values, n, n), 0);
  restoreLower(matrix(values, n, n), diagonal, 0, 30);
  restoreLower(matrix(values, n, n), diagonal, 30, n);
  assertSameBits(values, h, "restored");
});

testEachContext("solveRows() solves X·Lᵀ = B for more columns than its blocks have", (context) => {
  const n = 50, rows = 7, l = plainCholesky(positiveDefinite(5, n), n);
  const want = Float64Array.from({ length: rows * n }, (_, i) => Math.sin(i));
  const x = context.memory.f64(rows * n);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k <= j; k++) sum += want[r * n + k]! * l[j * n + k]!;
      x[r * n + j] = sum;
    }
  }
  solveRows(context.kernels, matrix(x, rows, n), matrix(put(context.memory, l), n, n));
  want.forEach((value, i) => assert(Math.abs(x[i]! - value) < 1e-10, `at ${i}`));
});
