import assert from "node:assert/strict";
import fc from "fast-check";
import { FLOAT_GROUP_COLS, type FloatRounding } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { e2m1Of, e2m1Value, e4m3Of } from "../../src/backend/reference/round_floats.ts";
import { f8e4m3ToF32 } from "../../src/core/dtype.ts";
import { assertSameBits, BACKENDS, type Subject, withSubject } from "./subject.ts";
import { normal, seeds, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

const KINDS = ["e4m3", "e4m3Groups", "e2m1Groups"] as const;

/** Runs the kernel; returns codes, scales of groups and values. */
async function round(subject: Subject, data: Float32Array, rounding: FloatRounding) {
  const { length } = data, group = FLOAT_GROUP_COLS[rounding.kind], bytes = new Uint8Array();
  const codes = subject.output(bytes, length / (rounding.kind === "e2m1Groups" ? 2 : 1));
  const groupScales = subject.output(bytes, group === null ? 0 : length / group);
  const out = subject.output(data, length), x = subject.input(data);
  await subject.kernels.roundFloats(codes, groupScales, out, x, rounding);
  return { codes: codes.slice(), groupScales: groupScales.slice(), values: out.slice() };
}

/** Fails unless every backend gives the same bits; returns them. */
async function sameOnAll(data: Float32Array, rounding: FloatRounding, context: string) {
  const all = [];
  for (const backend of BACKENDS) {
    all.push(await withSubject(backend, context, (subject) => round(subject, data, rounding)));
  }
  const [want, ...others] = all;
  for (const got of others) {
    for (const name of ["groupScales", "codes", "values"] as const) {
      assertSameBits(got[name], want![name], `${context}: ${name}`);
    }
  }
  return want!;
}

function squaredError(x: Float32Array, values: Float32Array): number {
  return x.reduce((sum, value, k) => sum + (value - values[k]!) ** 2, 0);
}

/** The nearest of codes by brute force; of two as near the even one. */
function nearest(x: number, codes: readonly number[], valueOf: (code: number) => number): number {
  let best = codes[0]!;
  for (const code of codes) {
    const less = Math.abs(valueOf(code) - x) - Math.abs(valueOf(best) - x);
    if (less < 0 || (less === 0 && code % 2 === 0)) best = code;
  }
  return best;
}

const E4M3 = Array.from({ length: 127 }, (_, code) => code);
const E2M1 = Array.from({ length: 8 }, (_, code) => code);

Deno.test("e4m3Of() rounds to the nearest code, ties to even, and saturates", () => {
  const draw = normal(1);
  const middles = E4M3.slice(1).map((code) => (f8e4m3ToF32(code) + f8e4m3ToF32(code - 1)) / 2);
  const all = [...middles, ...E4M3.map(f8e4m3ToF32), 464, 1e30, 0, 1e-45];
  for (let i = 0; i < 2000; i++) all.push(Math.fround(Math.abs(draw()) * 2 ** (i % 18 - 9)));
  for (const x of all) {
    const want = nearest(Math.min(x, 448), E4M3, f8e4m3ToF32);
    assert.equal(e4m3Of(x), want, `${x}`);
    assert.equal(e4m3Of(-x), want | 0x80, `${-x}`);
  }
  assert.equal(e4m3Of(NaN), 0);
});

Deno.test("e2m1Of() rounds to the nearest code, ties to even, and saturates", () => {
  for (let x = 0; x < 8; x += 1 / 64) {
    const want = nearest(Math.min(x, 6), E2M1, e2m1Value);
    assert.equal(e2m1Of(x), want, `${x}`);
    if (x > 0) assert.equal(e2m1Value(e2m1Of(-x)) + 0, -e2m1Value(want) + 0, `${-x}`);
  }
});

Deno.test("roundFloats() gives the golden codes on every backend", async () => {
  interface Vector {
    readonly kind: FloatRounding["kind"];
    readonly scale: number;
    readonly x: Packed<"f32">;
    readonly codes: Packed<"u8">;
    readonly group_scales: Packed<"u8">;
  }
  const vectors = readVectors<Vector>("round_floats");
  assert.equal(vectors.length, 3);
  for (const { name, kind, scale, ...packed } of vectors) {
    const got = await sameOnAll(unpack(packed.x), { kind, scale, search: true }, name);
    assertSameBits(got.codes, unpack(packed.codes), name);
    assertSameBits(got.groupScales, unpack(packed.group_scales), name);
  }
});

Deno.test("roundFloats() gives the same bits on every backend", async () => {
  const sizes = fc.record({
    kind: fc.constantFrom(...KINDS),
    count: fc.integer({ min: 0, max: 70 }),
    seed: seeds,
    exponent: fc.integer({ min: -125, max: 120 }),
    search: fc.boolean(),
  });
  await fc.assert(fc.asyncProperty(sizes, async ({ kind, count, seed, exponent, search }) => {
    const draw = normal(seed), length = count * (FLOAT_GROUP_COLS[kind] ?? 1);
    // Groups of very different sizes, some all zero.
    const x = Float32Array.from({ length }, (_, i) => {
      const size = Math.floor(i / 16) % 7;
      return size === 6 ? 0 : draw() * 2 ** (exponent - 3 * size);
    });
    const absmax = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = Math.fround(Math.max(absmax / (kind === "e4m3" ? 448 : 2688), 2 ** -126));
    await sameOnAll(x, { kind, scale, search }, `${kind} ${length} ${seed}`);
  }));
});

Deno.test("roundFloats() rounds ties, both zeros, the smallest and the largest numbers alike", async () => {
  const ties = [...E4M3.slice(1), ...E4M3.slice(1)].map((code, i) =>
    (f8e4m3ToF32(code) + f8e4m3ToF32(code - 1)) / 2 * (i % 2 === 0 ? 1 : -1)
  );
  const edges = [0, -0, 1e-45, -1e-45, 2 ** -126, 3.4e38, -3.4e38, 448, 464, 6, 5, 0.25, -0.25];
  const all = Float32Array.from({ length: 17 * 32 }, (_, i) => [...ties, ...edges][i] ?? 0);
  for (const kind of KINDS) {
    for (const scale of [1, 2 ** -126, 0.3]) {
      for (const search of [false, true]) {
        await sameOnAll(all, { kind, scale, search }, `${kind} by ${scale}`);
      }
    }
  }
});

Deno.test("roundFloats() rounds a sixth of a tiny value once, then to E4M3", async () => {
  // The sixth lies half a unit of f32, which is 2^-149 there, or a third of it beside the middle of two E4M3 numbers.
  const middles = [17 / 16, 17 / 64].map((tie) => 6 * tie * 2 ** 23);
  const cases = [[middles[0]! + 4, 57], [middles[0]! - 4, 56], [middles[1]! + 3, 40]] as const;
  for (const [units, code] of cases) {
    const x = new Float32Array(16).fill(units * 2 ** -149, 3, 4);
    assert.equal(x[3], units * 2 ** -149, "a number of f32");
    const rounding = { kind: "e2m1Groups", scale: 2 ** -126, search: false } as const;
    assert.equal((await sameOnAll(x, rounding, `${units}`)).groupScales[0], code);
  }
});

Deno.test("roundFloats() takes the nearest code, and values are codes times scales", async () => {
  const x = values(5, 320, "plain");
  const whole = await sameOnAll(x, { kind: "e4m3", scale: 0.001, search: false }, "e4m3");
  x.forEach((value, k) => {
    const code = nearest(Math.min(448, Math.abs(value / Math.fround(0.001))), E4M3, f8e4m3ToF32);
    assert.equal(whole.codes[k]! & 0x7f, code);
    const sign = whole.codes[k]! & 0x80 ? -1 : 1;
    assert.equal(whole.values[k], Math.fround(sign * f8e4m3ToF32(code) * Math.fround(0.001)));
  });
  const groups = await sameOnAll(x, { kind: "e4m3Groups", scale: 1, search: false }, "e4m3Groups");
  for (let g = 0; g < 10; g++) {
    const absmax = Math.max(...x.subarray(32 * g, 32 * g + 32).map(Math.abs));
    const scale = 2 ** (groups.groupScales[g]! - 127);
    assert(absmax <= 448 * scale && absmax > 224 * scale, `${g}`);
  }
  const pairs = await sameOnAll(
    x,
    { kind: "e2m1Groups", scale: 0.001, search: false },
    "e2m1Groups",
  );
  x.forEach((_, k) => {
    const scale = Math.fround(f8e4m3ToF32(pairs.groupScales[k >> 4]!) * Math.fround(0.001));
    const byte = pairs.codes[k >> 1]!, code = k % 2 === 0 ? byte >> 4 : byte & 15;
    assert.equal(pairs.values[k]! + 0, Math.fround(e2m1Value(code) * scale) + 0);
  });
});

Deno.test("roundFloats() loses no more with a search of scales than without, in any group", async () => {
  const draw = normal(2);
  for (const [kind, least] of [["e4m3Groups", 1], ["e2m1Groups", 0.97]] as const) {
    const size = FLOAT_GROUP_COLS[kind]!, errors = [0, 0];
    for (let i = 0; i < 300; i++) {
      const x = Float32Array.from({ length: size }, () => 0.02 * draw());
      const own: number[] = [];
      for (const search of [false, true]) {
        const rounding = { kind, scale: 0.08 / 2688, search };
        const { values } = await withSubject(BACKENDS[1]!, kind, (s) => round(s, x, rounding));
        own.push(squaredError(x, values));
      }
      assert(own[1]! <= own[0]! * (1 + 1e-5), `${kind}: ${own}`);
      own.forEach((error, k) => errors[k]! += error);
    }
    assert(errors[1]! <= least * errors[0]!, `${kind}: ${errors}`);
  }
});

Deno.test("roundFloats() refuses sizes that do not fit, before it writes", () => {
  const codes = new Uint8Array(32), groupScales = new Uint8Array(1);
  const x = new Float32Array(32), out = new Float32Array(32);
  const run = (kind: FloatRounding["kind"], scale = 1) =>
    referenceKernels.roundFloats(codes, groupScales, out, x, { kind, scale, search: true });
  run("e4m3Groups");
  assert.throws(() => run("e4m3"), /groupScales has 1 elements, needs 0/);
  assert.throws(() => run("e2m1Groups"), /codes has 32 elements, needs 16/);
  assert.throws(() => run("e4m3Groups", 0), /scale is 0/);
  assert.throws(
    () =>
      referenceKernels.roundFloats(codes, groupScales, out, x.subarray(1), {
        kind: "e4m3Groups",
        scale: 1,
        search: true,
      }),
    /groups of 32 do not divide 31 values/,
  );
});
