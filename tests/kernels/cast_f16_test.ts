import assert from "node:assert/strict";
import fc from "fast-check";
import {
  assertSameBits,
  assertSameOnAllBackends,
  type Subject,
  testEachBackend,
} from "./subject.ts";
import { flavors, LENGTHS, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case {
  x: Packed<"f32">;
  out: Packed<"u16">;
  first: number;
}

async function cast(subject: Subject, x: Float32Array) {
  const out = subject.output(new Uint16Array(), x.length);
  const first = await subject.kernels.castF16(out, subject.input(x));
  return { out, first };
}

for (const { name, x, out, first } of readVectors<Case>("cast_f16")) {
  testEachBackend(`castF16() gives the golden bits of ${name}`, async (subject) => {
    const got = await cast(subject, unpack(x));
    assertSameBits(got.out, unpack(out), name);
    assert.equal(got.first, first);
  });
}

testEachBackend(
  "castF16() names the first finite value that overflows, at any place",
  async (s) => {
    for (const at of [0, 3, 7, 8, 15, 16, 18]) {
      const x = values(at, 19, "plain");
      x[2] = Infinity;
      x[5] = NaN;
      x[at] = -65520;
      assert.equal((await cast(s, x)).first, at);
      x[at] = 65519.99;
      assert.equal((await cast(s, x)).first, -1);
    }
  },
);

async function compare(context: string, x: Float32Array): Promise<void> {
  await assertSameOnAllBackends(context, async (subject) => {
    const { out, first } = await cast(subject, x);
    return [out, new Float64Array([first])];
  });
}

Deno.test("castF16() gives the same on every backend for any values", async () => {
  const lengths = fc.constantFrom(...LENGTHS);
  await fc.assert(
    fc.asyncProperty(seeds, lengths, flavors, async (seed, length, flavor) => {
      await compare(`seed ${seed}, ${length}`, values(seed, length, flavor));
    }),
    { numRuns: 100 },
  );
});

Deno.test("castF16() gives the same on every backend around every binary16", async () => {
  // For each finite half and the tie above it: the f32 just below, at, and just above.
  const bits = new Uint32Array(6 * 0x7c00);
  const f32 = new Float32Array(bits.buffer);
  const half = new DataView(new ArrayBuffer(2));
  for (let k = 0; k < 0x7c00; k++) {
    half.setUint16(0, k);
    const value = half.getFloat16(0);
    half.setUint16(0, k + 1);
    const next = k + 1 < 0x7c00 ? half.getFloat16(0) : 65536;
    [value, (value + next) / 2].forEach((center, which) => {
      const i = 6 * k + 3 * which;
      f32[i + 1] = center;
      bits[i] = Math.max(0, bits[i + 1]! - 1);
      bits[i + 2] = bits[i + 1]! + 1;
    });
  }
  await compare("positive", f32);
  await compare("negative", f32.map((value) => -value));
});
