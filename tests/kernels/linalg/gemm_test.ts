import assert from "node:assert/strict";
import fc from "fast-check";
import { GEMM_DEPTH, type GemmMode } from "../../../src/linalg/linalg_kernels.ts";
import { block, matrix } from "../../../src/linalg/matrix.ts";
import { assertSameBits } from "../subject.ts";
import { flavors, seeds, values } from "../values.ts";
import {
  assertSameOnAllLinalg,
  type Place,
  placed,
  placedLength,
  testEachLinalg,
} from "./linalg_subject.ts";

const MODES: readonly GemmMode[] = ["set", "add", "subtract"];
const KERNELS = ["gemmF32", "gemmF64", "gemmF32F64"] as const;

/** Sizes around the tiles, and beyond the blocks, of the WASM kernels. */
const sizes = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 0, max: 20 }) },
  { weight: 2, arbitrary: fc.constantFrom(31, 32, 33, 97) },
);
const depths = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 0, max: 20 }) },
  { weight: 4, arbitrary: fc.constantFrom(255, 256, 257, 300, 513) },
);
const places: fc.Arbitrary<Place> = fc.record({
  gap: fc.nat(3),
  transposed: fc.boolean(),
});

testEachLinalg("gemm gives a product worked out by hand", (linalg, subject) => {
  const a = [1, 2, 3, 4, 5, 6], b = [7, 8, 9, 10, 11, 12], product = [58, 64, 139, 154];
  for (const mode of MODES) {
    const want = product.map((x) => mode === "set" ? x : mode === "add" ? 1 + x : 1 - x);
    const f32 = (data: number[]) => subject.input(Float32Array.from(data));
    const f64 = (data: number[]) => subject.input(Float64Array.from(data));
    const single = subject.inOut(new Float32Array(4).fill(1));
    linalg.gemmF32(matrix(single, 2, 2), matrix(f32(a), 2, 3), matrix(f32(b), 3, 2), mode);
    assert.deepEqual([...single], want);
    const double = subject.inOut(new Float64Array(4).fill(1));
    linalg.gemmF64(matrix(double, 2, 2), matrix(f64(a), 2, 3), matrix(f64(b), 3, 2), mode);
    assert.deepEqual([...double], want);
    const mixed = subject.inOut(new Float64Array(4).fill(1));
    linalg.gemmF32F64(matrix(mixed, 2, 2), matrix(f32(a), 2, 3), matrix(f32(b), 3, 2), mode);
    assert.deepEqual([...mixed], want);
  }
});

for (const kernel of KERNELS) {
  Deno.test(`${kernel}() gives the same on every backend for any shapes, strides and values`, () => {
    const property = fc.property(
      fc.record({ m: sizes, n: sizes, k: depths, seed: seeds, flavor: flavors }),
      fc.record({ a: places, b: places, gap: fc.nat(3), mode: fc.constantFrom(...MODES) }),
      ({ m, n, k, seed, flavor }, { a, b, gap, mode }) => {
        const context = JSON.stringify({ m, n, k, seed, flavor, a, b, gap, mode });
        const make = (salt: number, length: number, double: boolean) => {
          const data = values(seed + salt, length, flavor);
          return double ? Float64Array.from(data, (x) => x * (1 + 1e-12)) : data;
        };
        const dataA = make(0, placedLength(m, k, a), kernel === "gemmF64");
        const dataB = make(1, placedLength(k, n, b), kernel === "gemmF64");
        const dataC = make(2, m * (n + gap), kernel !== "gemmF32");
        assertSameOnAllLinalg(context, (linalg, subject) => {
          const c = subject.inOut(dataC);
          const run = linalg[kernel] as (...args: unknown[]) => void;
          run.call(
            linalg,
            matrix(c, m, n, n + gap),
            placed(subject.input(dataA), m, k, a),
            placed(subject.input(dataB), k, n, b),
            mode,
          );
          return [c];
        });
      },
    );
    fc.assert(property, { numRuns: 150 });
  });

  Deno.test(`${kernel}() gives the same on every backend beyond its blocks`, () => {
    const shapes = [[200, 9, 300], [6, 1030, 260], [100, 5, 513]] as const;
    for (const [m, n, k] of shapes) {
      const dataA = values(1, m * k, "plain"), dataB = values(2, k * n, "plain");
      assertSameOnAllLinalg(`${m} x ${n} x ${k}`, (linalg, subject) => {
        if (kernel === "gemmF32") {
          const a = matrix(subject.input(dataA), m, k), b = matrix(subject.input(dataB), k, n);
          const c = subject.output(dataA, m * n);
          linalg.gemmF32(matrix(c, m, n), a, b, "set");
          return [c];
        }
        const c = subject.output(new Float64Array(), m * n);
        if (kernel === "gemmF32F64") {
          const a = matrix(subject.input(dataA), m, k), b = matrix(subject.input(dataB), k, n);
          linalg.gemmF32F64(matrix(c, m, n), a, b, "set");
        } else {
          const a = matrix(subject.input(Float64Array.from(dataA)), m, k);
          const b = matrix(subject.input(Float64Array.from(dataB)), k, n);
          linalg.gemmF64(matrix(c, m, n), a, b, "set");
        }
        return [c];
      });
    }
  });
}

testEachLinalg("gemmF32() is near the product in f64", (linalg, subject) => {
  const m = 7, n = 11, k = 600;
  const a = values(3, m * k, "plain"), b = values(4, k * n, "plain");
  const c = subject.output(a, m * n);
  linalg.gemmF32(
    matrix(c, m, n),
    matrix(subject.input(a), m, k),
    matrix(subject.input(b), k, n),
    "set",
  );
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let want = 0;
      for (let t = 0; t < k; t++) want += a[i * k + t]! * b[t * n + j]!;
      assert(Math.abs(c[i * n + j]! - want) < 1e-6, `at ${i}, ${j}`);
    }
  }
});

testEachLinalg(
  "gemm gives the same bits for any split of rows, columns and runs of terms",
  (linalg, subject) => {
    const m = 23, n = 19, k = GEMM_DEPTH + 40;
    const dataA = subject.input(values(5, m * k, "plain"));
    const dataB = subject.input(values(6, k * n, "plain"));
    const a = matrix(dataA, m, k), b = matrix(dataB, k, n);
    const whole = matrix(subject.output(dataA, m * n), m, n);
    const parts = matrix(subject.output(dataA, m * n), m, n);
    linalg.gemmF32(whole, a, b, "set");
    for (const [top, bottom] of [[0, 6], [6, 23]] as const) {
      for (const [left, right] of [[0, 3], [3, 19]] as const) {
        const rows = bottom - top, cols = right - left;
        const c = block(parts, top, left, rows, cols);
        const late = k - GEMM_DEPTH;
        linalg.gemmF32(
          c,
          block(a, top, 0, rows, GEMM_DEPTH),
          block(b, 0, left, GEMM_DEPTH, cols),
          "set",
        );
        linalg.gemmF32(
          c,
          block(a, top, GEMM_DEPTH, rows, late),
          block(b, GEMM_DEPTH, left, late, cols),
          "add",
        );
      }
    }
    assertSameBits(parts.data, whole.data, "parts");
  },
);

testEachLinalg("gemm rejects matrices that do not fit together", (linalg) => {
  const m = (rows: number, cols: number) => matrix(new Float32Array(rows * cols), rows, cols);
  assert.throws(
    () => linalg.gemmF32(m(2, 3), m(2, 4), m(5, 3), "set"),
    { name: "RangeError", message: "Cannot run gemmF32: B is 5 x 3, needs 4 x 3" },
  );
  assert.throws(
    () => linalg.gemmF32(m(2, 3), m(3, 4), m(4, 3), "set"),
    { message: "Cannot run gemmF32: A is 3 x 4, needs 2 x 4" },
  );
  assert.throws(
    () => linalg.gemmF32(m(2, 3), matrix(new Float32Array(7), 2, 4), m(4, 3), "set"),
    { message: "Cannot run gemmF32: A reaches over 8 elements, has 7" },
  );
  const tall = { ...m(3, 2), rows: 2, cols: 3, rowStride: 1, colStride: 2 };
  assert.throws(() => linalg.gemmF32(tall, m(2, 4), m(4, 3), "set"), /C must be row-major/);
});
