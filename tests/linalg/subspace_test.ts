import assert from "node:assert/strict";
import fc from "fast-check";
import { randomFor } from "../../src/core/rng.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { matrix, type MatrixF32 } from "../../src/linalg/matrix.ts";
import { orthonormalizeRows } from "../../src/linalg/orthonormal.ts";
import { topSubspaces } from "../../src/linalg/subspace.ts";
import { symmetricEigen } from "../../src/linalg/symmetric_eigen.ts";
import { put, testEachContext, wasmContext } from "./contexts.ts";

function numbers(seed: number, count: number): Float32Array {
  const next = randomFor(seed, "numbers");
  return Float32Array.from({ length: count }, () => next() / 2 ** 31 - 1);
}

/** Largest deviation of the rows of `m` from an orthonormal set. */
function deviation(m: MatrixF32): number {
  let worst = 0;
  for (let i = 0; i < m.rows; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < m.cols; k++) {
        sum += m.data[i * m.rowStride + k]! * m.data[j * m.rowStride + k]!;
      }
      worst = Math.max(worst, Math.abs(sum));
    }
  }
  return worst;
}

/** ‖U·W·Vᵀ‖², what the subspaces hold of W. */
function heldBy(left: MatrixF32, w: MatrixF32, right: MatrixF32): number {
  let energy = 0;
  for (let a = 0; a < left.rows; a++) {
    const mixed = new Float64Array(w.cols);
    for (let i = 0; i < w.rows; i++) {
      const factor = left.data[a * left.rowStride + i]!;
      for (let k = 0; k < w.cols; k++) mixed[k] = mixed[k]! + factor * w.data[i * w.cols + k]!;
    }
    for (let b = 0; b < right.rows; b++) {
      let sum = 0;
      for (let k = 0; k < w.cols; k++) sum += mixed[k]! * right.data[b * right.rowStride + k]!;
      energy += sum * sum;
    }
  }
  return energy;
}

/** Squared singular values, by cyclic Jacobi on WWᵀ: another algorithm than the one under test. */
function squaredSingularValues(w: MatrixF32): number[] {
  const n = w.rows, a = Array.from({ length: n }, () => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < w.cols; k++) {
        a[i]![j]! += w.data[i * w.cols + k]! * w.data[j * w.cols + k]!;
      }
    }
  }
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (a[p]![q] === 0) continue;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1), s = t * c;
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[k]![p]!, a[k]![q]!];
          a[k]![p] = c * x - s * y;
          a[k]![q] = s * x + c * y;
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[p]![k]!, a[q]![k]!];
          a[p]![k] = c * x - s * y;
          a[q]![k] = s * x + c * y;
        }
      }
    }
  }
  return a.map((row, i) => row[i]!).sort((x, y) => y - x);
}

/** Singular values that fall like 1 / (1 + i / 4), in directions that are no axes. */
function decaying(context: LinalgContext, rows: number, cols: number, seed: number): MatrixF32 {
  const rank = Math.min(rows, cols), { kernels, memory } = context;
  const left = matrix(put(memory, numbers(seed, rank * rows)), rank, rows);
  const right = matrix(put(memory, numbers(seed + 1, rank * cols)), rank, cols);
  assert.equal(orthonormalizeRows(context, left), rank);
  assert.equal(orthonormalizeRows(context, right), rank);
  for (let i = 0; i < rank; i++) {
    for (let k = 0; k < cols; k++) right.data[i * cols + k]! /= 1 + i / 4;
  }
  const w = matrix(memory.f32(rows * cols), rows, cols);
  kernels.gemmF32(w, { ...left, rows, cols: rank, rowStride: 1, colStride: rows }, right, "set");
  return w;
}

testEachContext("topSubspaces() holds nearly what the largest singular values hold", (context) => {
  for (const [rows, cols] of [[40, 64], [64, 40], [40, 40]] as const) {
    const w = decaying(context, rows, cols, 5);
    const turned = matrix(w.data.slice(), rows, cols), count = 10;
    let want = 0;
    for (let i = 0; i < count; i++) want += 1 / (1 + i / 4) ** 2;
    for (const full of [false, true]) {
      const options = { count, full, refinements: 2, random: randomFor(1, "w") };
      const { left, right } = topSubspaces(context, w, options);
      assert.deepEqual([left.rows, right.rows, left.cols, right.cols], [count, count, rows, cols]);
      assert(deviation(left) < 1e-5 && deviation(right) < 1e-5);
      const held = heldBy(left, turned, right);
      const least = full ? 1 - 1e-5 : 0.99;
      assert(held <= want * (1 + 1e-5) && held >= want * least, `${full}: ${held} of ${want}`);
    }
  }
});

testEachContext("topSubspaces() finds no more directions than the rank", (context) => {
  const { memory } = context;
  const a = numbers(1, 3 * 20), b = numbers(2, 3 * 30);
  const w = Float32Array.from({ length: 600 }, (_, at) => {
    let sum = 0;
    for (let k = 0; k < 3; k++) sum += a[k * 20 + Math.floor(at / 30)]! * b[k * 30 + at % 30]!;
    return sum;
  });
  for (const full of [false, true]) {
    const options = { count: 8, full, refinements: 2, random: randomFor(1, "w") };
    const found = topSubspaces(context, matrix(put(memory, w), 20, 30), options);
    assert.deepEqual([found.left.rows, found.right.rows], [3, 3]);
    const zero = topSubspaces(context, matrix(memory.f32(600).fill(0), 20, 30), options);
    assert.deepEqual([zero.left.rows, zero.right.rows], [0, 0]);
    const one = topSubspaces(context, matrix(put(memory, b), 1, 90), options);
    assert.deepEqual([one.left.rows, one.right.rows], [1, 1]);
  }
});

testEachContext("topSubspaces() depends on the seed and the name only", (context) => {
  const w = matrix(put(context.memory, numbers(3, 24 * 32)), 24, 32);
  const of = (name: string) => {
    const found = topSubspaces(context, w, {
      count: 6,
      full: false,
      refinements: 1,
      random: randomFor(9, name),
    });
    return [...found.left.data.slice(0, found.left.rows * 24)];
  };
  assert.deepEqual(of("a"), of("a"));
  assert.notDeepEqual(of("a"), of("b"));
});

Deno.test("topSubspaces() is within a percent of Jacobi's singular values on any matrix", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 24 }), (
      seed,
      rows,
      cols,
    ) => {
      const mark = wasmContext.memory.mark();
      const w = matrix(put(wasmContext.memory, numbers(seed, rows * cols)), rows, cols);
      const count = Math.ceil(Math.min(rows, cols) / 3);
      const options = { count, full: true, refinements: 0, random: randomFor(seed, "w") };
      const { left, right } = topSubspaces(wasmContext, w, options);
      const held = heldBy(left, w, right);
      const want = squaredSingularValues(w).slice(0, count).reduce((sum, x) => sum + x, 0);
      assert(Math.abs(held / want - 1) < 1e-4, `${held}, want ${want}`);
      wasmContext.memory.release(mark);
    }),
    { numRuns: 40 },
  );
});

Deno.test("symmetricEigen() gives orthonormal vectors with A v = lambda v, largest first", () => {
  for (const n of [1, 2, 3, 8, 33]) {
    const x = numbers(n, n * n), a = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      // A repeated eigenvalue and zero blocks are no obstacle.
      for (let j = 0; j < n; j++) {
        a[i * n + j] = i % 5 === 4 || j % 5 === 4 ? 0 : x[i * n + j]! + x[j * n + i]!;
      }
    }
    const vectors = matrix(new Float64Array(n * n), n, n);
    const values = symmetricEigen(matrix(a.slice(), n, n), vectors);
    for (let v = 0; v < n; v++) {
      assert(v === 0 || values[v - 1]! >= values[v]!);
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += a[i * n + j]! * vectors.data[v * n + j]!;
        assert(Math.abs(sum - values[v]! * vectors.data[v * n + i]!) < 1e-12 * n, `${n}, ${v}`);
      }
    }
  }
});
