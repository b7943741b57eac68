import assert from "node:assert/strict";
import fc from "fast-check";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { CPU_BACKENDS, CpuRoom } from "./cpu_room.ts";
import { assertSameBits } from "./subject.ts";
import { FLAVORS, seeds, values } from "./values.ts";

const SHARES = Float32Array.of(1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4);

function largest(x: Float32Array): number {
  return x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** The scales that every backend finds, from those that reach the largest value of each row. */
function search(x: Float32Array, cols: number, shares = SHARES): Float32Array[] {
  const from = Float32Array.from(
    { length: x.length / cols },
    (_, r) => Math.max(largest(x.subarray(r * cols, (r + 1) * cols)) / 7, 1e-30),
  );
  return CPU_BACKENDS.map((kernels) => {
    const room = new CpuRoom(kernels), scales = room.f32(from);
    kernels.searchClip(scales, room.f32(x), room.f32(shares), cols);
    return scales.slice();
  });
}

/** The squared error of a row with a scale, in f64. */
function squaredError(row: Float32Array, scale: number): number {
  return row.reduce((sum, value) => {
    const code = Math.max(-7, Math.min(7, Math.round(value / scale)));
    return sum + (value - code * scale) ** 2;
  }, 0);
}

Deno.test("searchClip() gives the same scales on every backend", () => {
  const sizes = fc.record({
    rows: fc.integer({ min: 0, max: 5 }),
    vectors: fc.integer({ min: 1, max: 600 }),
    shares: fc.integer({ min: 1, max: SHARES.length }),
    seed: seeds,
  });
  fc.assert(fc.property(sizes, ({ rows, vectors, shares, seed }) => {
    const x = values(seed, rows * vectors * 4, "plain");
    const [want, got] = search(x, vectors * 4, SHARES.subarray(0, shares));
    assertSameBits(got!, want!, `${rows} x ${vectors * 4}`);
  }));
  for (const flavor of FLAVORS) {
    const [want, got] = search(values(3, 8 * 64, flavor), 64);
    assertSameBits(got!, want!, flavor);
  }
});

Deno.test("searchClip() takes the share of least squared error of each row", () => {
  const cols = 1200, x = values(7, 6 * cols, "plain");
  // One row with a value that is best clipped, one all zero, one on the levels of its scale.
  x[0] = 0.5;
  x.fill(0, 4 * cols, 5 * cols);
  for (let k = 0; k < cols; k++) x[5 * cols + k] = (k % 15) - 7;
  const [scales] = search(x, cols);
  for (let r = 0; r < 6; r++) {
    const row = x.subarray(r * cols, (r + 1) * cols);
    const reaching = Math.max(largest(row) / 7, 1e-30);
    const errors = [...SHARES].map((share) => squaredError(row, reaching * share));
    const own = squaredError(row, scales![r]!);
    assert(own <= Math.min(...errors) * (1 + 1e-5) + 1e-12, `row ${r}: ${own} of ${errors}`);
  }
  assert(scales![0]! < 0.9 * 0.5 / 7, "the row with an outlier is clipped");
  assert.equal(scales![4], Math.fround(1e-30));
  assert.equal(scales![5], 1);
});

Deno.test("searchClip() refuses sizes that do not fit", () => {
  const run = (rows: number, cols: number) =>
    referenceKernels.searchClip(new Float32Array(rows), new Float32Array(16), SHARES, cols);
  run(2, 8);
  assert.throws(() => run(3, 8), /scales has 3 elements, needs 2/);
  assert.throws(() => run(2, 6), /6 columns are no multiple of 4/);
});
