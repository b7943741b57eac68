import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "../subnormals.ts";
import { GEMM_DEPTH, type GemmMode } from "../../../src/linalg/linalg_kernels.ts";
import { block, matrix, type MatrixF32 } from "../../../src/linalg/matrix.ts";
import { assertSameBits, type NumberArray } from "../subject.ts";
import { flavors, seeds, values } from "../values.ts";
import {
  assertSameOnAllDevices,
  assertSameOnAllLinalg,
  type Place,
  placed,
  placedLength,
  testEachDevice,
  testEachLinalg,
} from "./linalg_subject.ts";

const MODES: readonly GemmMode[] = ["set", "add", "subtract"];
const FACTORS = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]] as const satisfies number[][];

/** Ones after the product of {@link FACTORS}, 2 x 3 by 3 x 2. */
function productOf(mode: GemmMode): number[] {
  return [58, 64, 139, 154].map((x) => mode === "set" ? x : mode === "add" ? 1 + x : 1 - x);
}

/** Beyond the blocks of the kernels. */
const SHAPES = [[200, 9, 300], [6, 1030, 260], [100, 5, 513]] as const;

/** How far an element may be from another order of additions; `gemm_f32.wgsl` explains the bound. */
function boundsOf(c: MatrixF32, a: MatrixF32, b: MatrixF32): Float64Array {
  const bounds = new Float64Array(c.data.length);
  for (let i = 0; i < c.rows; i++) {
    for (let j = 0; j < c.cols; j++) {
      let sum = Math.abs(c.data[i * c.rowStride + j]!);
      for (let k = 0; k < a.cols; k++) {
        const x = a.data[i * a.rowStride + k * a.colStride]!;
        sum += Math.abs(x * b.data[k * b.rowStride + j * b.colStride]!);
      }
      // Twice, as the reference has rounding errors too; subnormal products may be lost.
      bounds[i * c.rowStride + j] = 2 * (2 ** -23 * (a.cols + 2) * sum + 2 ** -126 * a.cols);
    }
  }
  return bounds;
}

/** Sums near the end of the range, or of what is not finite, may be anything. */
function assertWithin(
  got: NumberArray,
  want: NumberArray,
  bounds: Float64Array,
  context: string,
): void {
  want.forEach((value, i) => {
    if (!(bounds[i]! < 1e30) || Object.is(got[i], value)) return;
    const error = Math.abs(got[i]! - value);
    assert(error <= bounds[i]!, `${context}: at ${i} want ${value}, got ${got[i]}`);
  });
}

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

const problems = fc.record({
  m: sizes,
  n: sizes,
  k: depths,
  seed: seeds,
  flavor: flavors,
  a: places,
  b: places,
  gap: fc.nat(3),
  mode: fc.constantFrom(...MODES),
});

testEachDevice("gemmF32() gives a product worked out by hand", async (linalg, subject) => {
  const f32 = (data: number[]) => subject.input(Float32Array.from(data));
  for (const mode of MODES) {
    const c = subject.inOut(new Float32Array(4).fill(1));
    const a = matrix(f32(FACTORS[0]), 2, 3), b = matrix(f32(FACTORS[1]), 3, 2);
    await linalg.gemmF32(matrix(c, 2, 2), a, b, mode);
    assert.deepEqual([...c], productOf(mode));
  }
});

testEachLinalg("gemm gives a product worked out by hand in f64", (linalg, subject) => {
  for (const mode of MODES) {
    const f32 = (data: number[]) => subject.input(Float32Array.from(data));
    const f64 = (data: number[]) => subject.input(Float64Array.from(data));
    const [a, b] = FACTORS;
    const double = subject.inOut(new Float64Array(4).fill(1));
    linalg.gemmF64(matrix(double, 2, 2), matrix(f64(a), 2, 3), matrix(f64(b), 3, 2), mode);
    assert.deepEqual([...double], productOf(mode));
    const single = subject.inOut(new Float64Array(4).fill(1));
    linalg.gemmF64ByF32(matrix(single, 2, 2), matrix(f64(a), 2, 3), matrix(f64(b), 3, 2), mode);
    assert.deepEqual([...single], productOf(mode));
    const mixed = subject.inOut(new Float64Array(4).fill(1));
    linalg.gemmF32F64(matrix(mixed, 2, 2), matrix(f32(a), 2, 3), matrix(f32(b), 3, 2), mode);
    assert.deepEqual([...mixed], productOf(mode));
  }
});

Deno.test("gemmF32() gives the same on every device for any shapes, strides and values", async () => {
  const property = fc.asyncProperty(problems, async (problem) => {
    const { m, n, k, seed, flavor, a, b, gap, mode } = problem;
    const dataA = await asKept(values(seed, placedLength(m, k, a), flavor));
    const dataB = await asKept(values(seed + 1, placedLength(k, n, b), flavor));
    const dataC = await asKept(values(seed + 2, m * (n + gap), flavor));
    const bounds = boundsOf(
      matrix(dataC, m, n, n + gap),
      placed(dataA, m, k, a),
      placed(dataB, k, n, b),
    );
    await assertSameOnAllDevices(JSON.stringify(problem), async (linalg, subject) => {
      const c = subject.inOut(dataC);
      await linalg.gemmF32(
        matrix(c, m, n, n + gap),
        placed(subject.input(dataA), m, k, a),
        placed(subject.input(dataB), k, n, b),
        mode,
      );
      return [c];
    }, (got, want, context) => assertWithin(got, want, bounds, context));
  });
  await fc.assert(property, { numRuns: 150 });
});

Deno.test("gemmF32() gives the same on every device beyond its blocks", async () => {
  for (const [m, n, k] of SHAPES) {
    const dataA = values(1, m * k, "plain"), dataB = values(2, k * n, "plain");
    const nothing = matrix(new Float32Array(m * n), m, n);
    const bounds = boundsOf(nothing, matrix(dataA, m, k), matrix(dataB, k, n));
    await assertSameOnAllDevices(`${m} x ${n} x ${k}`, async (linalg, subject) => {
      const a = matrix(subject.input(dataA), m, k), b = matrix(subject.input(dataB), k, n);
      const c = subject.output(dataA, m * n);
      await linalg.gemmF32(matrix(c, m, n), a, b, "set");
      return [c];
    }, (got, want, context) => assertWithin(got, want, bounds, context));
  }
});

testEachDevice(
  "gemmF32() spreads a NaN over its row and column, not further",
  async (linalg, subject) => {
    const a = Float32Array.of(1, 2, NaN, 4), b = Float32Array.of(1, 2, 3, 4);
    const c = subject.inOut(Float32Array.of(1, 1, 1, NaN));
    const left = matrix(subject.input(a), 2, 2), right = matrix(subject.input(b), 2, 2);
    await linalg.gemmF32(matrix(c, 2, 2), left, right, "set");
    assert.deepEqual([...c], [7, 10, NaN, NaN]);
    await linalg.gemmF32(matrix(c, 2, 2), right, left, "add");
    assert.deepEqual([...c], [NaN, 20, NaN, NaN]);
  },
);

for (const kernel of ["gemmF64", "gemmF64ByF32", "gemmF32F64", "gemmF32ToF64"] as const) {
  const isDouble = kernel === "gemmF64" || kernel === "gemmF64ByF32";

  Deno.test(`${kernel}() gives the same on every backend for any shapes, strides and values`, () => {
    const property = fc.property(problems, (problem) => {
      const { m, n, k, seed, flavor, a, b, gap, mode } = problem;
      const make = (salt: number, length: number, double: boolean) => {
        const data = values(seed + salt, length, flavor);
        return double ? Float64Array.from(data, (x) => x * (1 + 1e-12)) : data;
      };
      const dataA = make(0, placedLength(m, k, a), isDouble);
      const dataB = make(1, placedLength(k, n, b), isDouble);
      const dataC = make(2, m * (n + gap), true);
      assertSameOnAllLinalg(JSON.stringify(problem), (linalg, subject) => {
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
    });
    fc.assert(property, { numRuns: 150 });
  });

  Deno.test(`${kernel}() gives the same on every backend beyond its blocks`, () => {
    for (const [m, n, k] of SHAPES) {
      const dataA = values(1, m * k, "plain"), dataB = values(2, k * n, "plain");
      assertSameOnAllLinalg(`${m} x ${n} x ${k}`, (linalg, subject) => {
        const c = subject.output(new Float64Array(), m * n);
        if (kernel === "gemmF32F64" || kernel === "gemmF32ToF64") {
          const a = matrix(subject.input(dataA), m, k), b = matrix(subject.input(dataB), k, n);
          linalg[kernel](matrix(c, m, n), a, b, "set");
        } else {
          const a = matrix(subject.input(Float64Array.from(dataA)), m, k);
          const b = matrix(subject.input(Float64Array.from(dataB)), k, n);
          linalg[kernel](matrix(c, m, n), a, b, "set");
        }
        return [c];
      });
    }
  });
}

testEachDevice("gemmF32() is near the product in f64", async (linalg, subject) => {
  const m = 7, n = 11, k = 600;
  const a = values(3, m * k, "plain"), b = values(4, k * n, "plain");
  const c = subject.output(a, m * n);
  await linalg.gemmF32(
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
  "gemmF64ByF32() rounds factors and products, not what they join",
  (linalg, subject) => {
    const tiny = 2 ** -40, c = subject.inOut(Float64Array.of(1 + tiny));
    const one = (x: number) => matrix(subject.input(Float64Array.of(x)), 1, 1);
    linalg.gemmF64ByF32(matrix(c, 1, 1), one(1 + tiny), one(3), "add");
    assert.equal(c[0], 4 + tiny);
  },
);

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

testEachDevice("gemmF32() rejects matrices that do not fit together", async (linalg) => {
  const rejects = (c: MatrixF32, a: MatrixF32, b: MatrixF32, message: string | RegExp) =>
    assert.rejects(async () => await linalg.gemmF32(c, a, b, "set"), {
      name: "RangeError",
      message,
    });
  const m = (rows: number, cols: number) => matrix(new Float32Array(rows * cols), rows, cols);
  await rejects(m(2, 3), m(2, 4), m(5, 3), "Cannot run gemmF32: B is 5 x 3, needs 4 x 3");
  await rejects(m(2, 3), m(3, 4), m(4, 3), "Cannot run gemmF32: A is 3 x 4, needs 2 x 4");
  const short = matrix(new Float32Array(7), 2, 4);
  await rejects(m(2, 3), short, m(4, 3), "Cannot run gemmF32: A reaches over 8 elements, has 7");
  const tall = { ...m(3, 2), rows: 2, cols: 3, rowStride: 1, colStride: 2 };
  await rejects(tall, m(2, 4), m(4, 3), /C must be row-major/);
});
