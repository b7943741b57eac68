/** Seeded test data: plain and nasty numbers, shapes around the widths of vectors. */

import fc from "fast-check";
import type { Grid } from "../../src/backend/backend.ts";

/** A generator of uniform numbers in 0..1 from a seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A generator of numbers that are nearly normal, of deviation 1: sums of twelve uniform ones. */
export function normal(seed: number): () => number {
  const next = uniform(seed);
  return () => {
    let sum = -6;
    for (let k = 0; k < 12; k++) sum += next();
    return sum;
  };
}

/** Values that break kernels: zeros, ties, subnormals, ends of the range, NaN, infinities. */
export const NASTY: readonly number[] = [
  0,
  -0,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  126.5,
  127,
  127.5,
  -127.5,
  128,
  -128,
  1e-45,
  -1e-45,
  1e-38,
  1.1754943508222875e-38,
  1e-30,
  -1e-30,
  65504,
  65519.99,
  65520,
  2 ** 22,
  2 ** 23,
  -(2 ** 24),
  -12582912,
  -12582914,
  -1.5e7,
  1e10,
  -1e10,
  3.4028234663852886e38,
  -3.4028234663852886e38,
  NaN,
  Infinity,
  -Infinity,
  6.103515625e-5,
  6.1e-5,
  2.98e-8,
  5.9604644775390625e-8,
];

export type Flavor = "plain" | "nasty" | "sparse" | "outlier" | "ties";

export const FLAVORS: readonly Flavor[] = ["plain", "nasty", "sparse", "outlier", "ties"];

/** `length` f32 of one flavor. */
export function values(seed: number, length: number, flavor: Flavor): Float32Array {
  const next = uniform(seed), gauss = normal(seed + 1);
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    if (flavor === "nasty" && next() < 0.3) out[i] = NASTY[Math.floor(next() * NASTY.length)]!;
    else if (flavor === "sparse" && next() < 0.9) out[i] = 0;
    else if (flavor === "ties") out[i] = (Math.floor(next() * 511) - 255) / 2;
    else out[i] = gauss() * 0.05;
  }
  if (flavor === "outlier" && length > 0) out[Math.floor(next() * length)] = 7;
  return out;
}

/** Lengths around one to four vectors, primes, and one that is cut into several. */
export const LENGTHS: readonly number[] = [
  0,
  1,
  2,
  3,
  4,
  5,
  7,
  8,
  9,
  15,
  16,
  17,
  31,
  32,
  33,
  61,
  64,
  97,
  257,
  1009,
  1025,
];

/** Grids of at most some thousand elements: odd columns, no rows, groups of every kind. */
export const grids: fc.Arbitrary<Grid> = fc.record({
  rowGroups: fc.integer({ min: 0, max: 4 }),
  colGroups: fc.integer({ min: 1, max: 4 }),
  groupRows: fc.integer({ min: 1, max: 4 }),
  groupCols: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(64, 128, 129, 200)),
}).map(({ rowGroups, colGroups, groupRows, groupCols }) => ({
  rows: rowGroups * groupRows,
  cols: colGroups * groupCols,
  groupRows,
  groupCols,
}));

export const flavors: fc.Arbitrary<Flavor> = fc.constantFrom(...FLAVORS);

export const seeds: fc.Arbitrary<number> = fc.nat();
