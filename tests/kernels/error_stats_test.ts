import assert from "node:assert/strict";
import fc from "fast-check";
import { STATS, STATS_LENGTH } from "../../src/backend/backend.ts";
import { errorStats as referenceStats } from "../../src/backend/reference/error_stats.ts";
import { BACKENDS, testEachBackend, withSubject } from "./subject.ts";
import { LENGTHS, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  x: Packed<"f32">;
  xhat: Packed<"f32">;
  stats: Packed<"f64">;
}

/** Fails if a sum differs by 1e-6 of its own scale, or if maximum or count differ at all. */
function assertClose(got: Float64Array, want: Float64Array, context: string): void {
  const sums = ["squaredError", "squaredSignal", "squaredDequantized", "dot"] as const;
  for (const name of sums) {
    const i = STATS[name];
    const scale = name === "dot"
      ? Math.sqrt(want[STATS.squaredSignal]! * want[STATS.squaredDequantized]!)
      : want[i]!;
    const difference = Math.abs(got[i]! - want[i]!);
    assert(difference <= 1e-6 * scale, `${context}: ${name} want ${want[i]}, got ${got[i]}`);
  }
  assert.equal(got[STATS.maxAbsError], want[STATS.maxAbsError], `${context}: maxAbsError`);
  assert.equal(got[STATS.count], want[STATS.count], `${context}: count`);
}

for (const { name, x, xhat, stats } of readVectors<Case>("error_stats")) {
  testEachBackend(`errorStats() gives the golden sums of ${name}`, async (subject) => {
    const got = subject.inOut(new Float64Array(STATS_LENGTH));
    await subject.kernels.errorStats(got, subject.input(unpack(x)), subject.input(unpack(xhat)));
    assertClose(got, unpack(stats), name);
  });
}

testEachBackend("errorStats() adds up over calls and keeps the largest error", async (subject) => {
  const stats = subject.inOut(new Float64Array(STATS_LENGTH));
  const add = (x: number[], xhat: number[]) =>
    subject.kernels.errorStats(
      stats,
      subject.input(new Float32Array(x)),
      subject.input(new Float32Array(xhat)),
    );
  await add([1, -2, 3], [1, 2, 3]);
  await add([1, 1, 1, 1, 8], [0, 0, 0, 0, 10]);
  await add([], []);
  assert.deepEqual([...stats], [16 + 8, 14 + 68, 14 + 100, 6 + 80, 4, 8]);
});

testEachBackend(
  "errorStats() neither overflows nor vanishes at the edges of f32",
  async (subject) => {
    // A GPU may take subnormal values for zero, also if they are differences of normal ones: 1e-31 leaves room
    // for values of a millionth of it.
    const edges = [[1e-25, 1e-27], [1e-31, 1e-31], [1e19, 1e17], [1e30, 1e28], [
      1e38,
      1e36,
    ]] as const;
    for (const [size, error] of [...edges, [1, 1e-24] as const]) {
      for (const length of [3, 1024, 2500]) {
        const x = values(7, length, "plain").map((value) => value * size * 0.1);
        const xhat = values(9, length, "plain").map((value, i) => x[i]! + 0.1 * value * error);
        // An error that f32 cannot hold beside the value.
        if (size === 1) xhat[0] = x[0] = 0, xhat[0] = error;
        const want = new Float64Array(STATS_LENGTH),
          got = subject.inOut(new Float64Array(STATS_LENGTH));
        referenceStats(want, x, xhat);
        await subject.kernels.errorStats(got, subject.input(x), subject.input(xhat));
        assert(want[STATS.squaredError]! > 0 && want.every(Number.isFinite));
        assertClose(got, want, `${size}, ${length}`);
      }
    }
  },
);

Deno.test("errorStats() is close on every backend to f64 sums", async () => {
  const lengths = fc.constantFrom(...LENGTHS, 70_001);
  await fc.assert(
    fc.asyncProperty(seeds, lengths, async (seed, length) => {
      const x = values(seed, length, "outlier"), noise = values(seed + 2, length, "plain");
      const xhat = x.map((value, i) => value + noise[i]! * 0.01);
      const want = new Float64Array(STATS_LENGTH);
      x.forEach((a, i) => {
        const b = xhat[i]!;
        want[STATS.squaredError]! += (a - b) ** 2;
        want[STATS.squaredSignal]! += a * a;
        want[STATS.squaredDequantized]! += b * b;
        want[STATS.dot]! += a * b;
        const error = Math.abs(Math.fround(a - b));
        want[STATS.maxAbsError] = Math.max(want[STATS.maxAbsError]!, error);
      });
      want[STATS.count] = length;
      for (const backend of BACKENDS) {
        const context = `${backend.name}, seed ${seed}, ${length}`;
        await withSubject(backend, context, async (subject) => {
          const got = subject.inOut(new Float64Array(STATS_LENGTH));
          await subject.kernels.errorStats(got, subject.input(x), subject.input(xhat));
          assertClose(got, want, context);
        });
      }
    }),
    { numRuns: 40 },
  );
});
