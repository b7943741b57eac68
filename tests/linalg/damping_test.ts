import assert from "node:assert/strict";
import { cholesky } from "../../src/linalg/cholesky.ts";
import { dampedCholesky, DAMPING_MAX, dampingsFrom } from "../../src/linalg/damping.ts";
import type { LinalgKernels } from "../../src/linalg/linalg_kernels.ts";
import { matrix, type MatrixF64 } from "../../src/linalg/matrix.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { put, testEachContext } from "./contexts.ts";
import { plainCholesky, positiveDefinite } from "./matrices.ts";

Deno.test("dampingsFrom() raises tenfold up to the largest", () => {
  assert.deepEqual(dampingsFrom(0.1), [0.1, 1, 10]);
  assert.deepEqual(dampingsFrom(0), [0, 0.01, 0.1, 1, 10]);
  assert.deepEqual(dampingsFrom(DAMPING_MAX), [DAMPING_MAX]);
  assert.deepEqual(dampingsFrom(50), [50]);
});

testEachContext("dampedCholesky() factors H + damping * mean * I", (context) => {
  const n = 140, h = positiveDefinite(1, n), values = put(context.memory, h);
  assert.equal(dampedCholesky(context, matrix(values, n, n), [0.25, 1], 2), 0);
  const damped = h.map((value, i) => i % (n + 1) === 0 ? value + 0.5 : value);
  const want = plainCholesky(damped, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) assert(Math.abs(values[i * n + j]! - want[i * n + j]!) < 1e-5);
  }
});

testEachContext(
  "dampedCholesky() raises the damping until an indefinite matrix has a factor",
  (context) => {
    // Eigenvalues 1 + c (n - 1) and 1 - c: with c = 2.5 the least is -1.5: damped by 2 it
    // is positive, but below half of the damping, where rounding errors decide.
    const n = 150, c = 2.5;
    const h = Float64Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : c);
    const values = put(context.memory, h);
    assert.equal(dampedCholesky(context, matrix(values, n, n), [0.02, 0.2, 2, 20], 1), 3);
    const want = plainCholesky(h.map((x, i) => i % (n + 1) === 0 ? x + 20 : x), n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) assert(Math.abs(values[i * n + j]! - want[i * n + j]!) < 1e-5);
    }
    const again = put(context.memory, h);
    assert.equal(dampedCholesky(context, matrix(again, n, n), [0.02, 0.2], 1), 2);
  },
);

testEachContext("dampedCholesky() gives channels without energy the mean", (context) => {
  const n = 3, values = put(context.memory, Float64Array.of(4, 0, 1, 0, 0, 0, 1, 0, 4));
  assert.equal(dampedCholesky(context, matrix(values, n, n), [0], 4), 0);
  assert.deepEqual([values[0], values[4], values[3], values[7]], [2, 2, 0, 0]);
});

testEachContext("dampedCholesky() leaves the last word to f64", (context) => {
  const n = 200, h = positiveDefinite(2, n), want = put(context.memory, h);
  for (let i = 0; i < n; i++) want[i * (n + 1)] = want[i * (n + 1)]! + 1;
  assert.equal(cholesky(context, matrix(want, n, n), 0), -1);
  const kernels: LinalgKernels = {
    name: context.kernels.name,
    choleskyBlock: (...args: Parameters<LinalgKernels["choleskyBlock"]>) =>
      context.kernels.choleskyBlock(...args),
    solveBlock: (...args: Parameters<LinalgKernels["solveBlock"]>) =>
      context.kernels.solveBlock(...args),
    copyRows: (...args: Parameters<LinalgKernels["copyRows"]>) => context.kernels.copyRows(...args),
    gemmF64: (...args: Parameters<LinalgKernels["gemmF64"]>) => context.kernels.gemmF64(...args),
    gemmF64ByF32: (c: MatrixF64) => c.data.fill(NaN, 0, c.rows * c.rowStride),
  } as unknown as LinalgKernels;
  const values = put(context.memory, h);
  assert.equal(dampedCholesky({ ...context, kernels }, matrix(values, n, n), [0.5], 2), 0);
  assertSameBits(values, want, "factor");
});

testEachContext("dampedCholesky() gives up on NaN", (context) => {
  const values = put(context.memory, Float64Array.of(1, NaN, NaN, 1));
  assert.equal(dampedCholesky(context, matrix(values, 2, 2), [0.1, 1], 1), 2);
});
