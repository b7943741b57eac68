import assert from "node:assert/strict";
import fc from "fast-check";
import { GEMM_I8_TERMS_MAX } from "../../../src/linalg/linalg_kernels.ts";
import { seeds, uniform } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

function codes(seed: number, length: number): Int8Array {
  const next = uniform(seed);
  return Int8Array.from({ length }, () => Math.floor(next() * 256) - 128);
}

testEachDevice("gemmI8() gives a product worked out by hand", async (linalg, subject) => {
  const a = subject.input(Int8Array.of(1, -2, 3, 127, -128, 0));
  const b = subject.input(Int8Array.of(-1, 1, 1, -128, 127, 5));
  const out = subject.output(new Int32Array() as never, 4) as unknown as Int32Array;
  await linalg.gemmI8(out, a, b, 2, 2, 3);
  assert.deepEqual([...out], [0, -128 - 254 + 15, -127 - 128, 127 * -128 - 128 * 127]);
});

Deno.test("gemmI8() gives the same on every backend for any shapes", async () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 18 }), fc.constantFrom(31, 97));
  const depth = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(511, 512, 513, 1031));
  await fc.assert(
    fc.asyncProperty(size, size, depth, seeds, async (m, n, k, seed) => {
      const a = codes(seed, m * k), b = codes(seed + 1, n * k);
      await assertSameOnAllDevices(`${m} x ${n} x ${k}, seed ${seed}`, async (linalg, subject) => {
        const out = subject.output(new Int32Array() as never, m * n) as unknown as Int32Array;
        await linalg.gemmI8(out, subject.input(a), subject.input(b), m, n, k);
        return [out as never];
      });
    }),
    { numRuns: 150 },
  );
});

Deno.test("gemmI8() gives the same on every backend beyond its blocks", async () => {
  for (const [m, n, k] of [[200, 9, 40], [3, 1030, 20]] as const) {
    const a = codes(1, m * k), b = codes(2, n * k);
    await assertSameOnAllDevices(`${m} x ${n} x ${k}`, async (linalg, subject) => {
      const out = subject.output(new Int32Array() as never, m * n) as unknown as Int32Array;
      await linalg.gemmI8(out, subject.input(a), subject.input(b), m, n, k);
      return [out as never];
    });
  }
});

testEachDevice(
  "gemmI8() does not overflow at the largest sum, and refuses more terms",
  async (linalg, subject) => {
    const k = GEMM_I8_TERMS_MAX;
    const lowest = subject.input(new Int8Array(k).fill(-128));
    const out = subject.output(new Int32Array() as never, 1) as unknown as Int32Array;
    await linalg.gemmI8(out, lowest, lowest, 1, 1, k);
    assert.equal(out[0], 128 * 128 * k);
    const longer = new Int8Array(k + 1);
    await assert.rejects(
      async () => await linalg.gemmI8(new Int32Array(1), longer, longer, 1, 1, k + 1),
      { message: `Cannot run gemmI8: ${k + 1} terms may overflow, at most ${k} cannot` },
    );
  },
);
