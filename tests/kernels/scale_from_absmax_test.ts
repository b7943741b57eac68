import assert from "node:assert/strict";
import { INT8_SYMMETRIC_MAX, SCALE_MIN } from "../../src/quant/scheme.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { LENGTHS, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  absmax: Packed<"f32">;
  scales: Packed<"f32">;
}

for (const { name, absmax, scales } of readVectors<Case>("scale_from_absmax")) {
  testEachBackend(`scaleFromAbsmax() gives the golden scales of ${name}`, async (subject) => {
    const want = unpack(scales);
    const got = subject.output(want, want.length);
    await subject.kernels.scaleFromAbsmax(got, subject.input(unpack(absmax)));
    assertSameBits(got, want, name);
    const inPlace = subject.inOut(unpack(absmax));
    await subject.kernels.scaleFromAbsmax(inPlace, inPlace);
    assertSameBits(inPlace, want, `${name}, in place`);
  });
}

testEachBackend(
  "scaleFromAbsmax() divides by the largest code and keeps the least scale",
  async (s) => {
    const scales = s.inOut(new Float32Array([INT8_SYMMETRIC_MAX, 0, NaN]));
    await s.kernels.scaleFromAbsmax(scales, scales);
    assert.deepEqual([...scales], [1, Math.fround(SCALE_MIN), Math.fround(SCALE_MIN)]);
  },
);

Deno.test("scaleFromAbsmax() gives the same on every backend at every length", async () => {
  for (const length of LENGTHS) {
    await assertSameOnAllBackends(`length ${length}`, async (subject) => {
      const absmax = subject.input(values(length, length, "nasty").map(Math.abs));
      const scales = subject.output(absmax, length);
      await subject.kernels.scaleFromAbsmax(scales, absmax);
      return [scales];
    });
  }
});
