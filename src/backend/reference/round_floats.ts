/** roundFloats: see `CpuKernels.roundFloats`, `asm/round_floats.ts`. */

import { f8e4m3ToF32 } from "../../core/dtype.ts";
import { FLOAT_GROUP_COLS, type FloatRounding } from "../backend.ts";
import { checkRoundFloats } from "../kernel_checks.ts";

/** The largest numbers of E4M3 and of E2M1. */
const E4M3_MAX = 448, E2M1_MAX = 6;

/** Steps of E4M3 that are tried around the scale of a group that reaches its largest value. */
const SCALE_STEPS = [0, -1, 1, -2, -3];

const { fround } = Math;
const bits = new Uint32Array(1), value = new Float32Array(bits.buffer);

/** Returns the E4M3 code nearest to x, ties to even, held to ±448; 0 for NaN. */
export function e4m3Of(x: number): number {
  if (Number.isNaN(x)) return 0;
  value[0] = x;
  const sign = (bits[0]! >>> 24) & 0x80;
  const magnitude = Math.min(Math.abs(value[0]!), E4M3_MAX);
  // Below 2^-6 numbers are multiples of 2^-9.
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

/** Codes, what they stand for, and the scales of groups. */
export function roundFloats(
  codes: Uint8Array,
  groupScales: Uint8Array,
  values: Float32Array,
  x: Float32Array,
  rounding: FloatRounding,
): void {
  checkRoundFloats(codes, groupScales, { values, x }, rounding);
  const { kind, search } = rounding, scale = fround(rounding.scale);
  const size = FLOAT_GROUP_COLS[kind] ?? x.length;
  for (let at = 0, group = 0; at < x.length; at += size, group++) {
    const own = x.subarray(at, at + size);
    let by = scale;
    if (kind === "e4m3Groups") {
      const exponent = exponentOf(own, search);
      groupScales[group] = exponent;
      by = 2 ** (exponent - 127);
    } else if (kind === "e2m1Groups") {
      const byte = scaleByteOf(own, scale, search);
      groupScales[group] = byte;
      by = fround(f8e4m3ToF32(byte) * scale);
    }
    for (let k = 0; k < own.length; k++) {
      const quotient = by === 0 ? 0 : fround(own[k]! / by);
      const isE2m1 = kind === "e2m1Groups";
      const code = isE2m1 ? e2m1Of(quotient) : e4m3Of(quotient);
      values[at + k] = (isE2m1 ? e2m1Value(code) : f8e4m3ToF32(code)) * by;
      if (!isE2m1) codes[at + k] = code;
      else if (k % 2 === 0) codes[(at + k) / 2] = code << 4;
      else codes[(at + k - 1) / 2]! |= code;
    }
  }
}

/**
 * The exponent of the scale of a group of E4M3: that which reaches its largest value, or the one below it if
 * that leaves less squared error.
 */
function exponentOf(x: Float32Array, search: boolean): number {
  value[0] = absmaxOf(x);
  // The largest value over 448 = 1.75 * 2^8, rounded up to a power of 2.
  const above = (bits[0]! & 0x7fffff) > 0x600000 ? 1 : 0;
  const exponent = Math.max(1, (bits[0]! >>> 23) - 8 + above);
  if (!search || exponent === 1) return exponent;
  const scale = 2 ** (exponent - 127);
  // In units of the scale, whose squares are a quarter as large below.
  const errorBy = (scale: number) =>
    squaredError(x, (value) => {
      const t = fround(value / scale);
      return fround(t - f8e4m3ToF32(e4m3Of(t)));
    });
  return errorBy(scale / 2) < 4 * errorBy(scale) ? exponent - 1 : exponent;
}

/** The byte of the scale of a group of E2M1 that has least squared error of those tried. */
function scaleByteOf(x: Float32Array, scale: number, search: boolean): number {
  const absmax = absmaxOf(x);
  const reaching = e4m3Of(fround(fround(absmax / E2M1_MAX) / scale));
  if (!search) return reaching;
  // In units of a power of 2 near the largest value squares neither overflow nor vanish.
  value[0] = absmax;
  const factor = 2 ** (127 - Math.min(253, Math.max(1, bits[0]! >>> 23)));
  let best = reaching, least = Infinity;
  for (const step of SCALE_STEPS) {
    const byte = Math.min(0x7e, Math.max(0, reaching + step));
    const by = fround(fround(f8e4m3ToF32(byte) * scale) * factor);
    const error = squaredError(x, (value) => {
      const y = fround(value * factor);
      const code = by === 0 ? 0 : e2m1Of(fround(y / by));
      return fround(y - fround(e2m1Value(code) * by));
    });
    if (!(error < least)) continue;
    least = error;
    best = byte;
  }
  return best;
}

function absmaxOf(x: Float32Array): number {
  return x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** The sum of squared errors in f32: four lanes, then (0 + 1) + (2 + 3). */
function squaredError(x: Float32Array, errorOf: (value: number) => number): number {
  const lanes = new Float32Array(4);
  x.forEach((value, k) => {
    const error = errorOf(value);
    lanes[k % 4] = lanes[k % 4]! + fround(error * error);
  });
  return fround(fround(lanes[0]! + lanes[1]!) + fround(lanes[2]! + lanes[3]!));
}
