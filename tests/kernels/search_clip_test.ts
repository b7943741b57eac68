import assert from "node:assert/strict";
import fc from "fast-check";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import {
  assertSameBits,
  assertSameOnAllBackends,
  BACKENDS,
  type Subject,
  testEachBackend,
  withSubject,
} from "./subject.ts";
import { FLAVORS, seeds, uniform, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

const SHARES = Float32Array.of(1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4);

function largest(x: Float32Array): number {
  return x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** The scales that a backend finds, from those that reach the largest value of each row. */
async function search(
  subject: Subject,
  x: Float32Array,
  cols: number,
  shares = SHARES,
): Promise<Float32Array> {
  const from = Float32Array.from(
    { length: x.length / cols },
    (_, r) => Math.max(largest(x.subarray(r * cols, (r + 1) * cols)) / 7, 1e-30),
  );
  const scales = subject.inOut(from);
  await subject.kernels.searchClip(scales, subject.input(x), subject.input(shares), cols);
  return scales;
}

/** The squared error of a row with a scale, in f64. */
function squaredError(row: Float32Array, scale: number): number {
  return row.reduce((sum, value) => {
    const code = Math.max(-7, Math.min(7, Math.round(value / scale)));
    return sum + (value - code * scale) ** 2;
  }, 0);
}

interface Case {
  readonly cols: number;
  readonly x: Packed<"f32">;
  readonly shares: Packed<"f32">;
  readonly start: Packed<"f32">;
  readonly scales: Packed<"f32">;
}

for (const { name, cols, ...packed } of readVectors<Case>("search_clip")) {
  testEachBackend(`searchClip() chooses the golden scales of ${name}`, async (subject) => {
    const scales = subject.inOut(unpack(packed.start));
    const x = subject.input(unpack(packed.x)), shares = subject.input(unpack(packed.shares));
    await subject.kernels.searchClip(scales, x, shares, cols);
    assertSameBits(scales, unpack(packed.scales), name);
  });
}

Deno.test("searchClip() gives the same scales on every backend", async () => {
  const sizes = fc.record({
    rows: fc.integer({ min: 0, max: 5 }),
    vectors: fc.integer({ min: 1, max: 600 }),
    shares: fc.integer({ min: 1, max: SHARES.length }),
    seed: seeds,
  });
  await fc.assert(fc.asyncProperty(sizes, async ({ rows, vectors, shares, seed }) => {
    const x = values(seed, rows * vectors * 4, "plain");
    await assertSameOnAllBackends(
      `${rows} x ${vectors * 4}`,
      async (subject) => [await search(subject, x, vectors * 4, SHARES.subarray(0, shares))],
    );
  }));
  for (const flavor of FLAVORS) {
    const x = values(3, 8 * 64, flavor);
    await assertSameOnAllBackends(flavor, async (subject) => [await search(subject, x, 64)]);
  }
});

Deno.test("searchClip() takes more shares than some backends try at a time", async () => {
  const shares = Float32Array.from({ length: 37 }, (_, i) => 1 - i / 50), cols = 1028;
  for (const seed of [1, 2, 3]) {
    const x = values(seed, 4 * cols, "plain");
    const find = async (subject: Subject) => [await search(subject, x, cols, shares)];
    await assertSameOnAllBackends(`${seed}`, find);
  }
});

Deno.test("searchClip() adds the errors of runs up in f64, rounded to even", async () => {
  const draw = uniform(5), runs = 4, cols = runs * 1024, rows = 200;
  const x = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    // Squares from 2^52 to 2^56, beside which either share leaves the same error: 2 more is half a unit, or 1 or 1/4.
    x[r * cols] = 2 ** 26 * (1 + Math.floor(3 * draw()));
    for (let run = 1; run < runs; run++) {
      const count = 16 * (1 + Math.floor(4 * draw())), size = 2 ** -Math.floor(24 * draw() + 1) / 8;
      for (let k = 0; k < count; k++) {
        // The square of 1/4 plus or minus a little: plus with one share, minus with the other.
        const sign = Math.floor(3 * draw()) - 1;
        x[r * cols + run * 1024 + k] = 0.25 + sign * size;
      }
    }
  }
  const shares = Float32Array.of(1, 0.5), ones = new Float32Array(rows).fill(1);
  const taken: Float32Array[] = [];
  await assertSameOnAllBackends("runs", async (subject) => {
    const scales = subject.inOut(ones);
    await subject.kernels.searchClip(scales, subject.input(x), subject.input(shares), cols);
    taken.push(scales.slice());
    return [scales];
  });
  for (const share of shares) assert(taken[0]!.filter((scale) => scale === share).length >= 5);
});

Deno.test("searchClip() takes the share of least squared error of each row", async () => {
  const cols = 1200, x = values(7, 6 * cols, "plain");
  // One row with a value that is best clipped, one all zero, one on the levels of its scale.
  x[0] = 0.5;
  x.fill(0, 4 * cols, 5 * cols);
  for (let k = 0; k < cols; k++) x[5 * cols + k] = (k % 15) - 7;
  const scales = await withSubject(BACKENDS[0]!, "shares", (subject) => search(subject, x, cols));
  for (let r = 0; r < 6; r++) {
    const row = x.subarray(r * cols, (r + 1) * cols);
    const reaching = Math.max(largest(row) / 7, 1e-30);
    const errors = [...SHARES].map((share) => squaredError(row, reaching * share));
    const own = squaredError(row, scales[r]!);
    assert(own <= Math.min(...errors) * (1 + 1e-5) + 1e-12, `row ${r}: ${own} of ${errors}`);
  }
  assert(scales[0]! < 0.9 * 0.5 / 7, "the row with an outlier is clipped");
  assert.equal(scales[4], Math.fround(1e-30));
  assert.equal(scales[5], 1);
});

Deno.test("searchClip() refuses sizes that do not fit", () => {
  const run = (rows: number, cols: number) =>
    referenceKernels.searchClip(new Float32Array(rows), new Float32Array(16), SHARES, cols);
  run(2, 8);
  assert.throws(() => run(3, 8), /scales has 3 elements, needs 2/);
  assert.throws(() => run(2, 6), /6 columns are no multiple of 4/);
});
