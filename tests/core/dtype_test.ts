import assert from "node:assert/strict";
import fc from "fast-check";
import {
  alignmentOf,
  bf16ToF32,
  type DType,
  DTYPE_BITS,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  f8e4m3ToF32,
  f8e5m2ToF32,
  isDType,
  isFloatDType,
} from "../../src/core/dtype.ts";

/** Returns the index of the value of `sorted` (all finite magnitudes, rising) nearest to `value`. */
function nearestEven(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle;
    else high = middle;
  }
  const below = value - sorted[low]!; // exact: both are multiples of the smaller's last place
  const above = sorted[high]! - value;
  if (below !== above) return below < above ? low : high;
  return low % 2 === 0 ? low : high;
}

Deno.test("f16ToF32() and f32ToF16() give back all 65536 codes", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = f16ToF32(bits);
    const isNaN = (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
    assert.equal(Number.isNaN(value), isNaN, `${bits}`);
    if (!isNaN) assert.equal(f32ToF16(value), bits, `${bits}: ${value}`);
  }
});

Deno.test("bf16ToF32() and f32ToBf16() give back all 65536 codes", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = bf16ToF32(bits);
    const isNaN = (bits & 0x7f80) === 0x7f80 && (bits & 0x7f) !== 0;
    assert.equal(Number.isNaN(value), isNaN, `${bits}`);
    if (!isNaN) assert.equal(f32ToBf16(value), bits, `${bits}: ${value}`);
  }
});

Deno.test("f16ToF32() has the values of IEEE 754 at its landmarks", () => {
  const landmarks: [number, number][] = [
    [0x3c00, 1],
    [0xc000, -2],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x7bff, 65504],
    [0x7c00, Infinity],
    [0xfc00, -Infinity],
    [0x3555, 0.333251953125],
  ];
  for (const [bits, value] of landmarks) assert.equal(f16ToF32(bits), value);
  assert(Object.is(f16ToF32(0x8000), -0));
});

Deno.test("f32ToF16() rounds to the nearest code, ties to even, at and around every midpoint", () => {
  const f32 = new Float32Array(1);
  const u32 = new Uint32Array(f32.buffer);
  for (let bits = 0; bits < 0x7bff; bits++) {
    // Two neighbours of binary16 have their midpoint, and its f32 neighbours, in f32 exactly.
    const middle = (f16ToF32(bits) + f16ToF32(bits + 1)) / 2;
    const even = bits % 2 === 0 ? bits : bits + 1;
    f32[0] = middle;
    assert.equal(f32[0], middle);
    assert.equal(f32ToF16(middle), even, `tie above ${bits}`);
    assert.equal(f32ToF16(-middle), even | 0x8000, `tie below -${bits}`);
    const middleBits = u32[0]!;
    u32[0] = middleBits - 1;
    assert.equal(f32ToF16(f32[0]!), bits, `under the tie above ${bits}`);
    u32[0] = middleBits + 1;
    assert.equal(f32ToF16(f32[0]!), bits + 1, `over the tie above ${bits}`);
  }
});

Deno.test("f32ToF16() overflows to infinity from 65520 on, and underflows to signed zero", () => {
  const under65520 = 65519.99609375; // the f32 before 65520
  assert.equal(f32ToF16(under65520), 0x7bff);
  assert.equal(f32ToF16(65520), 0x7c00);
  assert.equal(f32ToF16(-65520), 0xfc00);
  assert.equal(f32ToF16(3.4e38), 0x7c00);
  assert.equal(f32ToF16(-Infinity), 0xfc00);
  assert.equal(f32ToF16(2 ** -25), 0, "tie with zero");
  assert.equal(f32ToF16(2 ** -25 + 2 ** -48), 1);
  assert.equal(f32ToF16(2 ** -149), 0);
  assert.equal(f32ToF16(-(2 ** -149)), 0x8000);
  assert.equal(f32ToF16(-0), 0x8000);
});

Deno.test("f32ToF16() and f32ToBf16() keep NaN a NaN", () => {
  assert.equal(f32ToF16(NaN) & 0x7fff, 0x7e00);
  assert.equal(f32ToBf16(NaN) & 0x7fff, 0x7fc0);
});

Deno.test("f32ToF16() agrees with a search of all codes for any f32", () => {
  const magnitudes = Array.from({ length: 0x7c00 }, (_, bits) => f16ToF32(bits));
  fc.assert(
    fc.property(fc.float({ noNaN: true, min: -65504, max: 65504 }), (value) => {
      const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
      assert.equal(f32ToF16(value), sign | nearestEven(magnitudes, Math.abs(value)));
    }),
    { numRuns: 3000 },
  );
});

Deno.test("f32ToBf16() rounds ties to even and overflows to infinity past the largest", () => {
  assert.equal(f32ToBf16(1 + 2 ** -8), 0x3f80, "tie down to even");
  assert.equal(f32ToBf16(1 + 3 * 2 ** -8), 0x3f82, "tie up to even");
  assert.equal(f32ToBf16(1 + 2 ** -8 + 2 ** -23), 0x3f81, "over a tie");
  assert.equal(f32ToBf16(bf16ToF32(0x7f7f)), 0x7f7f);
  assert.equal(f32ToBf16(3.4028234663852886e38), 0x7f80);
  assert.equal(f32ToBf16(2 ** -133), 1, "smallest subnormal");
  assert.equal(f32ToBf16(2 ** -134), 0, "tie with zero");
  assert.equal(f32ToBf16(-(2 ** -149)), 0x8000);
});

Deno.test("f32ToBf16() agrees with a search of all codes for any f32", () => {
  const magnitudes = Array.from({ length: 0x7f80 }, (_, bits) => bf16ToF32(bits));
  const largest = magnitudes.at(-1)!;
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      fc.pre(Math.abs(value) <= largest);
      const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
      assert.equal(f32ToBf16(value), sign | nearestEven(magnitudes, Math.abs(value)));
    }),
    { numRuns: 3000 },
  );
});

Deno.test("f8e4m3ToF32() has the values of the FN variant", () => {
  const landmarks: [number, number][] = [
    [0x00, 0],
    [0x01, 2 ** -9],
    [0x07, 7 * 2 ** -9],
    [0x08, 2 ** -6],
    [0x38, 1],
    [0x7e, 448],
    [0xfe, -448],
    [0x78, 256],
  ];
  for (const [bits, value] of landmarks) assert.equal(f8e4m3ToF32(bits), value);
  assert(Object.is(f8e4m3ToF32(0x80), -0));
  for (let bits = 0; bits < 256; bits++) {
    assert.equal(Number.isFinite(f8e4m3ToF32(bits)), (bits & 0x7f) !== 0x7f, `${bits}`);
    if (bits > 0 && bits < 0x7f) assert(f8e4m3ToF32(bits) > f8e4m3ToF32(bits - 1), `${bits}`);
  }
});

Deno.test("f8e5m2ToF32() has the values of the upper byte of a binary16", () => {
  assert.equal(f8e5m2ToF32(0x01), 2 ** -16);
  assert.equal(f8e5m2ToF32(0x3c), 1);
  assert.equal(f8e5m2ToF32(0x7b), 57344);
  assert.equal(f8e5m2ToF32(0x7c), Infinity);
  assert.equal(f8e5m2ToF32(0xfc), -Infinity);
  assert(Number.isNaN(f8e5m2ToF32(0x7d)));
});

Deno.test("alignmentOf() is the element size, and 1 below a byte", () => {
  const alignments: Record<DType, number> = {
    F64: 8,
    F32: 4,
    F16: 2,
    BF16: 2,
    F8_E4M3: 1,
    F8_E5M2: 1,
    F8_E8M0: 1,
    F6_E2M3: 1,
    F6_E3M2: 1,
    F4: 1,
    C64: 8,
    I64: 8,
    I32: 4,
    I16: 2,
    I8: 1,
    U64: 8,
    U32: 4,
    U16: 2,
    U8: 1,
    BOOL: 1,
  };
  for (const dtype of Object.keys(DTYPE_BITS) as DType[]) {
    assert.equal(alignmentOf(dtype), alignments[dtype], dtype);
  }
});

Deno.test("isDType() knows the format's names and no inherited ones", () => {
  assert(isDType("BF16") && isDType("F4"));
  for (const name of ["bf16", "", "toString", "__proto__", "F128"]) assert(!isDType(name), name);
});

Deno.test("isFloatDType() holds for dtypes that decode to f32", () => {
  const floats = (Object.keys(DTYPE_BITS) as DType[]).filter(isFloatDType);
  assert.deepEqual(floats.sort(), ["BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2"]);
});
