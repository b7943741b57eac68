import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "./subnormals.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { flavors, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  groupSize: number;
  x: Packed<"f32">;
  out: Packed<"f32">;
}

for (const { groupSize, x, out } of readVectors<Case>("rotate")) {
  testEachBackend(
    `rotate() gives the golden values for groups of ${groupSize}`,
    async (subject) => {
      const got = subject.inOut(unpack(x));
      await subject.kernels.rotate(got, groupSize);
      assertSameBits(got, unpack(out), `groups of ${groupSize}`);
    },
  );
}

const H4 = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]];

/** Entry of the unnormalised matrix H_4m = kron(H_m, H4): the product over the base-4 digits. */
function entry(row: number, column: number, size: number): number {
  let sign = 1;
  for (let m = size; m > 1; m /= 4) {
    sign *= H4[row % 4]![column % 4]!;
    row = Math.floor(row / 4);
    column = Math.floor(column / 4);
  }
  return sign;
}

for (const groupSize of [4, 16, 64, 256, 1024]) {
  testEachBackend(
    `rotate() multiplies by kron(H_m, H4) / sqrt(g) for g = ${groupSize}`,
    async (s) => {
      const x = values(groupSize, 2 * groupSize, "plain");
      const got = s.inOut(x);
      await s.kernels.rotate(got, groupSize);
      for (let i = 0; i < x.length; i++) {
        const start = i - i % groupSize;
        let want = 0;
        for (let k = 0; k < groupSize; k++) {
          want += x[start + k]! * entry(k, i % groupSize, groupSize);
        }
        want /= Math.sqrt(groupSize);
        assert(Math.abs(got[i]! - want) < 1e-6, `at ${i}: want ${want}, got ${got[i]}`);
      }
    },
  );
}

for (const groupSize of [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]) {
  testEachBackend(`rotate() twice is the identity for groups of ${groupSize}`, async (subject) => {
    const x = values(1, groupSize, "outlier");
    const got = subject.inOut(x);
    await subject.kernels.rotate(got, groupSize);
    await subject.kernels.rotate(got, groupSize);
    x.forEach((want, i) => {
      assert(Math.abs(got[i]! - want) < 1e-5, `at ${i}: want ${want}, got ${got[i]}`);
    });
  });
}

Deno.test("rotate() gives the same on every backend for any values", async () => {
  const sizes = fc.constantFrom(1, 4, 16, 64, 256, 1024);
  await fc.assert(
    fc.asyncProperty(seeds, sizes, fc.nat(5), flavors, async (seed, groupSize, groups, flavor) => {
      const x = await asKept(values(seed, groupSize * groups, flavor));
      await assertSameOnAllBackends(`seed ${seed}, ${groups} of ${groupSize}`, async (subject) => {
        const out = subject.inOut(x);
        await subject.kernels.rotate(out, groupSize);
        return [out];
      });
    }),
    { numRuns: 120 },
  );
});

Deno.test("rotate() gives the same on every backend for large groups", async () => {
  for (const groupSize of [4096, 16384, 65536, 262144]) {
    const x = values(groupSize, groupSize, "plain");
    await assertSameOnAllBackends(`one of ${groupSize}`, async (subject) => {
      const out = subject.inOut(x);
      await subject.kernels.rotate(out, groupSize);
      return [out];
    });
  }
});
