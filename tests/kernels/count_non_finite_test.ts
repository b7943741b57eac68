import assert from "node:assert/strict";
import { testEachBackend } from "./subject.ts";
import { LENGTHS, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  x: Packed<"f32">;
  count: number;
  first: number;
}

for (const { name, x, count, first } of readVectors<Case>("count_non_finite")) {
  testEachBackend(`countNonFinite() finds the golden places of ${name}`, async (subject) => {
    const got = await subject.kernels.countNonFinite(subject.input(unpack(x)));
    assert.deepEqual(got, { count, first });
  });
}

testEachBackend(
  "countNonFinite() counts at every length, in vectors and tails",
  async (subject) => {
    for (const length of LENGTHS) {
      const x = values(length, length, "nasty");
      const isBad = (value: number) => !Number.isFinite(value);
      const got = await subject.kernels.countNonFinite(subject.input(x));
      assert.deepEqual(got, { count: x.filter(isBad).length, first: x.findIndex(isBad) });
    }
  },
);

testEachBackend(
  "countNonFinite() distinguishes the largest finite value from infinity",
  async (s) => {
    const x = new Float32Array(20).fill(3.4028234663852886e38);
    assert.deepEqual(await s.kernels.countNonFinite(s.input(x)), { count: 0, first: -1 });
    x[19] = -Infinity;
    x[11] = NaN;
    assert.deepEqual(await s.kernels.countNonFinite(s.input(x)), { count: 2, first: 11 });
  },
);
