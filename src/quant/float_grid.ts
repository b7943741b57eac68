/**
 * Weights as floats of 8 or 4 bits with scales: `float8_e4m3fn` (one scale), `mxfp8` (a power of 2 per 32 columns)
 * and `nvfp4` (E2M1 with an E4M3 scale per 16 columns, and one for all). Rounded to nearest; the scale of a group
 * is that of least squared error among some. Compensating errors gains little on them. Pure.
 */

import { f8e4m3ToF32 } from "../core/dtype.ts";

/** Which of them, as plans and tasks have it: plain JSON. */
export interface FloatScheme {
  /** One scale; a power of 2 per 32 columns; an E4M3 scale per 16 columns, and one for all. */
  readonly kind: "e4m3" | "e4m3Groups" | "e2m1Groups";
}

/** The largest numbers of E4M3 and of E2M1. */
const E4M3_MAX = 448, E2M1_MAX = 6;

/** Columns that share a scale; null: all of a weight. */
export const FLOAT_GROUPS: Readonly<Record<FloatScheme["kind"], number | null>> = Object.freeze({
  e4m3: null,
  e4m3Groups: 32,
  e2m1Groups: 16,
});

const bits = new Uint32Array(1), value = new Float32Array(bits.buffer);

/** Returns the E4M3 code nearest to x, ties to even, held to ±448; 0 for NaN. */
export function e4m3Of(x: number): number {
  if (Number.isNaN(x)) return 0;
  value[0] = x;
  const sign = (bits[0]! >>> 24) & 0x80;
  const magnitude = Math.min(Math.abs(value[0]!), E4M3_MAX);
  // Below 2^-6 numbers are multiples of 2^-9; adding 1.5 * 2^23 rounds half to even.
  if (magnitude < 2 ** -6) return sign | roundHalfEven(magnitude * 512);
  value[0] = magnitude;
  const rounded = bits[0]! + 0x7ffff + ((bits[0]! >>> 20) & 1);
  return sign | ((rounded >>> 20) - (120 << 3));
}

/** The magnitudes of E2M1, and the middles between them: a value there takes the even code. */
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6], MIDDLES = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5];

/** Returns the E2M1 code nearest to x, ties to even, held to ±6; 0 for NaN. */
export function e2m1Of(x: number): number {
  const magnitude = Math.abs(x);
  let code = 0;
  for (let i = 0; i < 7; i++) {
    if (magnitude > MIDDLES[i]! || (magnitude === MIDDLES[i]! && i % 2 === 1)) code = i + 1;
  }
  return x < 0 ? code | 8 : code;
}

/** Returns the value of an E2M1 code. */
export function e2m1Value(code: number): number {
  return code & 8 ? -E2M1[code & 7]! : E2M1[code & 7]!;
}

function roundHalfEven(x: number): number {
  const low = Math.floor(x), rest = x - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** The scale of `float8_e4m3fn` for a weight of this largest magnitude. */
export function e4m3Scale(absmax: number): number {
  return Math.fround(Math.max(absmax / E4M3_MAX, 2 ** -126));
}

/** The scale of all groups of `nvfp4`. */
export function nvfp4Scale(absmax: number): number {
  return Math.fround(Math.max(absmax / (E4M3_MAX * E2M1_MAX), 2 ** -126));
}

/** What a group is rounded to: the byte of its scale, its codes, its values. */
export interface FloatGroup {
  readonly codes: Uint8Array;
  readonly values: Float32Array;
}

/** Rounds `x` by E4M3 times `scale`; fills codes and values. */
export function roundE4m3(x: Float32Array, scale: number, { codes, values }: FloatGroup): void {
  for (let k = 0; k < x.length; k++) {
    const code = e4m3Of(Math.fround(x[k]! / scale));
    codes[k] = code;
    values[k] = f8e4m3ToF32(code) * scale;
  }
}

/**
 * Rounds a group of `mxfp8`; returns the exponent of its scale: the one that reaches its largest value, or the
 * one below it where that leaves less squared error.
 */
export function roundMxfp8(x: Float32Array, group: FloatGroup, search: boolean): number {
  const absmax = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const needed = Math.max(absmax / E4M3_MAX, 2 ** -127);
  const exponent = Math.min(254, Math.max(1, Math.ceil(Math.log2(needed)) + 127));
  let best = exponent;
  if (search && exponent > 1 && absmax > 0) {
    roundE4m3(x, 2 ** (exponent - 127), group);
    const error = squaredError(x, group.values);
    roundE4m3(x, 2 ** (exponent - 128), group);
    if (squaredError(x, group.values) < error) best = exponent - 1;
  }
  roundE4m3(x, 2 ** (best - 127), group);
  return best;
}

/** Steps of E4M3 that are tried around the scale that reaches the largest value of a group of `nvfp4`. */
const NVFP4_STEPS = [0, -1, 1, -2, -3];

/** Rounds a group of `nvfp4`, whose groups share `scale`; returns the byte of its own scale. */
export function roundNvfp4(
  x: Float32Array,
  scale: number,
  group: FloatGroup,
  search: boolean,
): number {
  const absmax = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const reaching = e4m3Of(Math.fround(Math.fround(absmax / E2M1_MAX) / scale));
  let best = reaching, least = Infinity;
  for (const step of search ? NVFP4_STEPS : []) {
    const byte = Math.min(0x7e, Math.max(0, reaching + step));
    roundE2m1(x, f8e4m3ToF32(byte) * scale, group);
    const error = squaredError(x, group.values);
    if (!(error < least)) continue;
    least = error;
    best = byte;
  }
  roundE2m1(x, f8e4m3ToF32(best) * scale, group);
  return best;
}

function roundE2m1(x: Float32Array, scale: number, { codes, values }: FloatGroup): void {
  for (let k = 0; k < x.length; k++) {
    const code = scale === 0 ? 0 : e2m1Of(Math.fround(x[k]! / scale));
    codes[k] = code;
    values[k] = e2m1Value(code) * scale;
  }
}

function squaredError(x: Float32Array, values: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < x.length; k++) sum += (x[k]! - values[k]!) ** 2;
  return sum;
}
