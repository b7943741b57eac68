import fc from "fast-check";
import assert from "node:assert/strict";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { flavors, LENGTHS, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  x: Packed<"f32">;
  binsPerUnit: number;
  counts: Packed<"u32">;
}

for (const { name, x, binsPerUnit, counts } of readVectors<Case>("histogram")) {
  testEachBackend(`histogram() gives the golden counts of ${name}`, async (subject) => {
    const want = unpack(counts);
    const got = subject.inOut(new Uint32Array(want.length));
    await subject.kernels.histogram(got, subject.input(unpack(x)), binsPerUnit);
    assertSameBits(got, want, name);
  });
}

testEachBackend("histogram() adds to the counts it is given", async (subject) => {
  const counts = subject.inOut(new Uint32Array([10, 20, 30]));
  const x = new Float32Array([0, 0.9, -1, 1.5, 2, 7, -Infinity, NaN]);
  await subject.kernels.histogram(counts, subject.input(x), 1);
  assert.deepEqual([...counts], [13, 22, 33]);
});

Deno.test("histogram() gives the same on every backend for any values", async () => {
  const lengths = fc.constantFrom(...LENGTHS);
  const bins = fc.integer({ min: 1, max: 300 });
  const perUnit = fc.constantFrom(0, 1, 3.3, 1000, 1e-30, 1e38, Infinity);
  await fc.assert(
    fc.asyncProperty(seeds, lengths, flavors, bins, perUnit, async (seed, n, flavor, b, f) => {
      const x = values(seed, n, flavor);
      await assertSameOnAllBackends(`seed ${seed}, ${n}, ${b} bins, ${f}`, async (subject) => {
        const counts = subject.inOut(new Uint32Array(b));
        await subject.kernels.histogram(counts, subject.input(x), f);
        return [counts];
      });
    }),
    { numRuns: 150 },
  );
});
