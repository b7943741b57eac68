import fc from "fast-check";
import { DTYPE_BITS, FLOAT_DTYPES, type FloatDType } from "../../src/core/dtype.ts";
import { assertSameBits, assertSameOnAllBackends, testEachBackend } from "./subject.ts";
import { LENGTHS, seeds, uniform } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  dtype: FloatDType;
  source: Packed<"u8">;
  out: Packed<"f32">;
}

for (const { dtype, source, out } of readVectors<Case>("decode")) {
  testEachBackend(`decode() gives the golden f32 of ${dtype}`, async (subject) => {
    const want = unpack(out);
    const got = subject.output(want, want.length);
    await subject.kernels.decode(got, subject.input(unpack(source)), dtype);
    assertSameBits(got, want, dtype);
  });
}

for (const dtype of FLOAT_DTYPES) {
  Deno.test(`decode() gives the same on every backend for any bytes as ${dtype}`, async () => {
    const lengths = fc.constantFrom(...LENGTHS);
    await fc.assert(
      fc.asyncProperty(seeds, lengths, async (seed, length) => {
        const next = uniform(seed);
        const bytes = Uint8Array.from(
          { length: length * DTYPE_BITS[dtype] / 8 },
          () => next() * 256,
        );
        await assertSameOnAllBackends(`seed ${seed}, ${length} of ${dtype}`, async (subject) => {
          const out = subject.output(new Float32Array(), length);
          await subject.kernels.decode(out, subject.input(bytes), dtype);
          return [out];
        });
      }),
      { numRuns: 60 },
    );
  });
}

Deno.test("decode() gives the same on every backend for all 65536 halves", async () => {
  const bits = Uint16Array.from({ length: 65536 + 3 }, (_, k) => k);
  for (const dtype of ["F16", "BF16"] as const) {
    await assertSameOnAllBackends(dtype, async (subject) => {
      const source = subject.input(new Uint8Array(bits.buffer));
      const out = subject.output(new Float32Array(), bits.length);
      await subject.kernels.decode(out, source, dtype);
      return [out];
    });
  }
});
