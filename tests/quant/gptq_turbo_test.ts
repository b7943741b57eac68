/** Errors fed back in integers beside the same in f32, on data that is hard on integers. */

import assert from "node:assert/strict";
import { CountedMemory } from "../../src/core/counted_memory.ts";
import type { Grid } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { gptqRows, planGptq, prepareGptq, usesIntegers } from "../../src/quant/gptq.ts";
import { put, wasmContext } from "../linalg/contexts.ts";
import { outputError, positiveDefinite, weights } from "../linalg/matrices.ts";
import { normal, uniform } from "../kernels/values.ts";

interface Case {
  /** f32 `[rows, n]`. */
  readonly w: Float32Array;
  /** f64 `[n, n]`. */
  readonly h: Float64Array;
  readonly grid: Grid;
  readonly actOrder: boolean;
}

/** Codes, and the output error that they leave. */
function round({ w, h, grid, actOrder }: Case, turbo: boolean): {
  codes: Int8Array;
  error: number;
} {
  const { memory } = wasmContext, mark = memory.mark(), { cols: n } = grid;
  const scales = memory.f32((grid.rows / grid.groupRows) * (n / grid.groupCols));
  referenceKernels.absmax(scales, w, grid);
  referenceKernels.scaleFromAbsmax(scales, scales);
  const values = put(memory, h);
  const factor = prepareGptq(
    wasmContext,
    { size: n, blockSize: n, values, source: "hessian" },
    { actOrder, damping: 0.1, turbo: turbo ? memory : null },
  );
  assert.equal(factor.report.fallback, null);
  assert.equal(factor.packed !== null, turbo);
  const errors = put(memory, w), codes = memory.i8(w.length);
  gptqRows(wasmContext, factor, { weights: errors, codes, firstRow: 0, grid, scales });
  const result = { codes: codes.slice(), error: Math.sqrt(outputError(errors, h, n)) };
  memory.release(mark);
  return result;
}

/** XᵀX of correlated inputs whose channels have these magnitudes. */
function hessianOf(magnitudes: Float64Array, seed: number): Float64Array {
  const n = magnitudes.length, h = positiveDefinite(seed, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) h[i * n + j] = h[i * n + j]! * magnitudes[i]! * magnitudes[j]!;
  }
  return h;
}

const N = 320, ROWS = 12;

/** Numbers spread over so many orders of magnitude. */
function spread(orders: number, seed: number): Float64Array {
  const next = uniform(seed);
  return Float64Array.from({ length: N }, () => 10 ** (orders * (next() - 0.5)));
}

/** Normal weights, their columns times a power of `magnitudes`. */
function weightsBy(magnitudes: Float64Array, power: number): Float32Array {
  const gauss = normal(9);
  return Float32Array.from(
    { length: ROWS * N },
    (_, i) => 0.02 * gauss() * magnitudes[i % N]! ** power,
  );
}

for (const orders of [2, 4, 6]) {
  for (const power of [0, 1, -0.5, -1]) {
    const name = `channels over ${orders} orders of magnitude, weights by their power ${power}`;
    Deno.test(`gptqRows() in integers is as good as in f32 with ${name}`, () => {
      const magnitudes = spread(orders, orders), h = hessianOf(magnitudes, 5);
      const w = weightsBy(magnitudes, power);
      for (const groupCols of [N, 64]) {
        for (const actOrder of [true, false]) {
          const layer = { w, h, grid: { rows: ROWS, cols: N, groupRows: 1, groupCols }, actOrder };
          const ratio = round(layer, true).error / round(layer, false).error;
          assert(ratio <= 1.005, `groups of ${groupCols}, act-order ${actOrder}: ${ratio}`);
        }
      }
    });
  }
}

const ODD: Readonly<Record<string, (h: Float64Array) => void>> = {
  "of rank 1": (h) => {
    const x = Float64Array.from({ length: N }, normal(3));
    for (let i = 0; i < h.length; i++) h[i] = x[Math.floor(i / N)]! * x[i % N]!;
  },
  "with channels of zeros": (h) => {
    for (let i = 0; i < h.length; i++) if (Math.floor(i / N) % 3 === 0 || i % N % 3 === 0) h[i] = 0;
  },
  "with one channel a million times as large": (h) => {
    for (let i = 0; i < h.length; i++) {
      h[i] = h[i]! * (Math.floor(i / N) === 100 ? 1e6 : 1) * (i % N === 100 ? 1e6 : 1);
    }
  },
  "of energies of 1e30": (h) => h.forEach((value, i) => h[i] = value * 1e30),
  "of energies of 1e-30": (h) => h.forEach((value, i) => h[i] = value * 1e-30),
};

for (const [name, change] of Object.entries(ODD)) {
  Deno.test(`gptqRows() in integers is as good as in f32 with a Hessian ${name}`, () => {
    const h = positiveDefinite(7, N);
    change(h);
    const grid = { rows: ROWS, cols: N, groupRows: 1, groupCols: N };
    const layer = { w: weights(8, ROWS * N), h, grid, actOrder: true };
    const exact = round(layer, false), packed = round(layer, true);
    assert(packed.error <= 1.01 * exact.error, `${packed.error} against ${exact.error}`);
  });
}

Deno.test("gptqRows() in integers gives the same codes for weights of any magnitude", () => {
  const h = positiveDefinite(7, N), w = weights(8, ROWS * N);
  const grid = { rows: ROWS, cols: N, groupRows: 1, groupCols: N };
  const want = round({ w, h, grid, actOrder: true }, true).codes;
  for (const factor of [2 ** -70, 2 ** 100]) {
    const scaled = w.map((value) => value * factor);
    const got = round({ w: scaled, h, grid, actOrder: true }, true).codes;
    assert.deepEqual(got, want, `${factor}`);
  }
});

Deno.test("planGptq() counts the memory that prepareGptq() takes for integers", () => {
  const size = 600, context = wasmContext, { memory } = context, mark = memory.mark();
  for (const blockSize of [600, 300, 150, 100]) {
    const values = memory.f64(size * blockSize).fill(0);
    for (let i = 0; i < size; i++) values[i * blockSize + i % blockSize] = 1;
    const options = { actOrder: true, damping: 0.1, turbo: memory };
    const { packed } = prepareGptq(
      context,
      { size, blockSize, values, source: "hessian" },
      options,
    );
    const bytes = (packed ?? []).flat().reduce(
      (sum, { numbers, scales, diagonal, panels }) =>
        [numbers, scales, diagonal, panels].reduce((bytes, part) => bytes + part.byteLength, sum),
      0,
    );
    const shared = new CountedMemory();
    planGptq(new CountedMemory(), shared, {
      size,
      blockSize,
      actOrder: true,
      turbo: true,
      hasLevels: false,
    });
    const room = shared.peakBytes;
    assert(bytes <= room && bytes + 128 * (size / blockSize) >= room, `${bytes} of ${room}`);
    assert.equal(packed === null, blockSize <= 128);
  }
  memory.release(mark);
});

Deno.test("prepareGptq() packs bytes unless much is fed back", () => {
  const { memory } = wasmContext, mark = memory.mark();
  const few = positiveDefinite(2, N).map((x, i) => {
    const [row, col] = [Math.floor(i / N), i % N];
    return Math.sin(row + 1) * Math.sin(col + 1) + 1e-4 * x;
  });
  for (
    const [name, h, damping, bits] of [
      ["little damping", positiveDefinite(1, N), 0.02, 8],
      ["one direction, the default damping", few, 0.1, 8],
      ["one direction, little damping", few, 0.01, 16],
    ] as const
  ) {
    const hessian = { size: N, blockSize: N, values: put(memory, h), source: "hessian" } as const;
    const options = { actOrder: true, damping, turbo: memory };
    const { packed } = prepareGptq(wasmContext, hessian, options);
    assert.equal(packed![0]!.bits, bits, name);
  }
  memory.release(mark);
});

Deno.test("usesIntegers() leaves layers in f32 that would not fit a WebAssembly memory", () => {
  const sizes = { actOrder: true, turbo: true, hasLevels: false };
  assert(usesIntegers({ ...sizes, size: 16384, blockSize: 16384 }));
  assert(!usesIntegers({ ...sizes, size: 20480, blockSize: 20480 }));
  assert(usesIntegers({ ...sizes, size: 20480, blockSize: 5120 }), "in segments there is room");
  assert(!usesIntegers({ ...sizes, turbo: false, size: 1024, blockSize: 1024 }));
});
