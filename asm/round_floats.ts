/**
 * roundFloats: values as floats of few bits, E4M3 or E2M1, rounded to nearest, ties to even, and saturating.
 *
 *     kind 0, E4M3 under one scale s:       code = E4M3(x / s)
 *     kind 1, E4M3, 32 values under 2^e:    code = E4M3(x / 2^e)
 *     kind 2, E2M1, 16 values under b s:    code = E2M1(x / (b s)), b in E4M3; 0 if b s is 0
 *     value = code * scale
 *
 * e is the least integer with absmax <= 448 * 2^e, at least -126; with `search` the one below it, if the sum of
 * squared errors is smaller. b is absmax / 6 / s rounded to E4M3; with `search` that of least squared error of b and
 * its neighbours at -1, +1, -2, -3 steps (the first of those that are as good). Errors are added up in f32, in lanes
 * k mod 4, and those as (0 + 1) + (2 + 3); of kind 1 in units of the scale, of kind 2 in a power of 2 near
 * absmax.
 *
 * Adding R, a power of 2 whose unit is that of the result, rounds a magnitude; its distance from R in units is what
 * follows the exponent in the code.
 *
 * Layout: x and values f32 [count], codes u8 [count], of kind 2 [count / 2] with the even column in the high
 * half; group scales u8 [count / 32] or [count / 16], the biased exponent or the byte of b. count is a multiple of
 * the group; of kind 0 any number, its tail is done one by one. Any alignment. x is finite, s at least 2^-126.
 * Class: exact. Divisions are true ones.
 */

import { keepF32, keepI32 } from "./lib/constants";
import { maxLanesF32, sumLanesF32 } from "./lib/lanes";

/** The largest numbers of E4M3 and E2M1, and the bits of their least normal ones. */
const E4M3_MAX: f32 = 448, E2M1_MAX: f32 = 6;
const E4M3_LEAST: i32 = 121 << 23, E2M1_LEAST: i32 = 127 << 23;

/** What makes R of the exponent of a number: 23 less the bits after the leading one. */
const E4M3_RISE: i32 = 20 << 23, E2M1_RISE: i32 = 22 << 23;

/** Shift of an exponent to its place in the code, and what it is too large by. */
const E4M3_SHIFT: i32 = 20, E2M1_SHIFT: i32 = 22;
const E4M3_BIAS: i32 = 968, E2M1_BIAS: i32 = 254;

const EXPONENT: i32 = 0x7f800000, SIGN: i32 = 1 << 31;

export function roundFloats(
  codes: usize,
  groupScales: usize,
  values: usize,
  x: usize,
  count: usize,
  kind: i32,
  scale: f32,
  search: i32,
): void {
  if (kind == 0) roundWhole(codes, values, x, count, scale);
  else if (kind == 1) roundE4m3Groups(codes, groupScales, values, x, count, search);
  else roundE2m1Groups(codes, groupScales, values, x, count, scale, search);
}

function roundWhole(codes: usize, values: usize, x: usize, count: usize, scale: f32): void {
  const most = keepF32(E4M3_MAX), mask = keepI32(EXPONENT), least = keepI32(E4M3_LEAST);
  const rise = keepI32(E4M3_RISE), by = f32x4.splat(scale);
  let i: usize = 0;
  for (; i + 16 <= count; i += 16) {
    v128.store(codes + i, e4m3Of16(values + (i << 2), x + (i << 2), by, false, most, mask, least, rise));
  }
  for (; i < count; i++) {
    const t = f32x4.div(v128.load32_splat(x + (i << 2)), by), m = f32x4.pmin(f32x4.abs(t), most);
    const e = exponentsOf(m, mask, least), r = i32x4.add(e, rise), sum = f32x4.add(m, r);
    v128.store32_lane(values + (i << 2), f32x4.mul(signed(f32x4.sub(sum, r), t), by), 0);
    store<u8>(codes + i, <u8>i32x4.extract_lane(e4m3Code(sum, r, e, t), 0));
  }
}

function roundE4m3Groups(
  codes: usize,
  exponents: usize,
  values: usize,
  x: usize,
  count: usize,
  search: i32,
): void {
  const most = keepF32(E4M3_MAX), mask = keepI32(EXPONENT), least = keepI32(E4M3_LEAST);
  const rise = keepI32(E4M3_RISE);
  for (let i: usize = 0; i < count; i += 32) {
    let largest = f32x4.splat(0);
    for (let k: usize = 0; k < 128; k += 16) {
      largest = f32x4.pmax(largest, f32x4.abs(v128.load(x + k)));
    }
    const absmax = reinterpret<i32>(maxLanesF32(largest));
    let exponent = max<i32>(1, (absmax >> 23) - 8 + <i32>((absmax & 0x7fffff) > 0x600000));
    if (search && exponent > 1) {
      const below = errorOfE4m3(x, powerOf(exponent - 1), most, mask, least, rise);
      if (below < 4 * errorOfE4m3(x, powerOf(exponent), most, mask, least, rise)) exponent--;
    }
    const by = f32x4.splat(powerOf(exponent));
    v128.store(codes, e4m3Of16(values, x, by, true, most, mask, least, rise));
    v128.store(codes, e4m3Of16(values + 64, x + 64, by, true, most, mask, least, rise), 16);
    store<u8>(exponents++, <u8>exponent);
    codes += 32;
    values += 128;
    x += 128;
  }
}

/** 2^(exponent - 127). */
// @ts-ignore: decorator
@inline
function powerOf(exponent: i32): f32 {
  return reinterpret<f32>(exponent << 23);
}

/** The inverse of a power of 2 from 2^-126 to 2^126: products with it are the quotients, exactly. */
// @ts-ignore: decorator
@inline
function inverseOf(power: v128): v128 {
  return i32x4.sub(i32x4.splat(254 << 23), power);
}

/** The squared error of 32 values under a power of 2, in its units. */
// @ts-ignore: decorator
@inline
function errorOfE4m3(
  x: usize,
  scale: f32,
  most: v128,
  mask: v128,
  least: v128,
  rise: v128,
): f32 {
  const inverse = inverseOf(f32x4.splat(scale));
  let sum = f32x4.splat(0);
  for (let k: usize = 0; k < 128; k += 16) {
    const t = f32x4.abs(f32x4.mul(v128.load(x + k), inverse));
    const error = f32x4.sub(t, rounded(f32x4.pmin(t, most), mask, least, rise));
    sum = f32x4.add(sum, f32x4.mul(error, error));
  }
  return sumLanesF32(sum);
}

function roundE2m1Groups(
  codes: usize,
  bytes: usize,
  values: usize,
  x: usize,
  count: usize,
  scale: f32,
  search: i32,
): void {
  const most = keepF32(E2M1_MAX), mask = keepI32(EXPONENT), least = keepI32(E2M1_LEAST);
  const rise = keepI32(E2M1_RISE);
  for (let i: usize = 0; i < count; i += 16) {
    const a = v128.load(x), b = v128.load(x, 16), c = v128.load(x, 32), d = v128.load(x, 48);
    const largest = f32x4.pmax(
      f32x4.pmax(f32x4.abs(a), f32x4.abs(b)),
      f32x4.pmax(f32x4.abs(c), f32x4.abs(d)),
    );
    const absmax = maxLanesF32(largest);
    let byte = byteOf(absmax / E2M1_MAX / scale);
    if (search) {
      const exponent = min<i32>(253, max<i32>(1, reinterpret<i32>(absmax) >> 23));
      const factor = powerOf(254 - exponent), by = f32x4.splat(factor);
      byte = bestByte(
        f32x4.mul(f32x4.abs(a), by),
        f32x4.mul(f32x4.abs(b), by),
        f32x4.mul(f32x4.abs(c), by),
        f32x4.mul(f32x4.abs(d), by),
        byte,
        scale,
        factor,
        most,
        mask,
        least,
        rise,
      );
    }
    const own = valueOfByte(byte) * scale, by = f32x4.splat(own);
    store<u8>(bytes++, <u8>byte);
    if (own == 0) {
      v128.store(values, f32x4.splat(0));
      v128.store(values, f32x4.splat(0), 16);
      v128.store(values, f32x4.splat(0), 32);
      v128.store(values, f32x4.splat(0), 48);
      store<u64>(codes, 0);
    } else {
      const low = i16x8.narrow_i32x4_u(
        e2m1To(values, a, by, most, mask, least, rise),
        e2m1To(values + 16, b, by, most, mask, least, rise),
      );
      const high = i16x8.narrow_i32x4_u(
        e2m1To(values + 32, c, by, most, mask, least, rise),
        e2m1To(values + 48, d, by, most, mask, least, rise),
      );
      const all = i8x16.narrow_i16x8_u(low, high);
      const pairs = v128.or(
        v128.and(i16x8.shl(all, 4), i16x8.splat(0xf0)),
        i16x8.shr_u(all, 8),
      );
      v128.store64_lane(codes, i8x16.narrow_i16x8_u(pairs, pairs), 0);
    }
    codes += 8;
    values += 64;
    x += 64;
  }
}

/** The byte of least squared error for 16 magnitudes, in units of 1 / factor, of that which is given and four near it. */
// @ts-ignore: decorator
@inline
function bestByte(
  a: v128,
  b: v128,
  c: v128,
  d: v128,
  reaching: i32,
  scale: f32,
  factor: f32,
  most: v128,
  mask: v128,
  least: v128,
  rise: v128,
): i32 {
  let best = reaching, lowest = f32.MAX_VALUE;
  for (let i = 0; i < 5; i++) {
    // 0, -1, 1, -2, -3
    const step = i == 2 ? 1 : i < 2 ? -i : 1 - i;
    const byte = min<i32>(0x7e, max<i32>(0, reaching + step));
    const own = valueOfByte(byte) * scale * factor;
    const by = f32x4.splat(own == 0 ? f32.MAX_VALUE : own);
    const ea = squaredOf(a, by, most, mask, least, rise);
    const eb = squaredOf(b, by, most, mask, least, rise);
    const ec = squaredOf(c, by, most, mask, least, rise);
    const ed = squaredOf(d, by, most, mask, least, rise);
    const error = sumLanesF32(f32x4.add(f32x4.add(f32x4.add(ea, eb), ec), ed));
    if (error < lowest) {
      lowest = error;
      best = byte;
    }
  }
  return best;
}

/** The squared errors of four magnitudes. */
// @ts-ignore: decorator
@inline
function squaredOf(y: v128, by: v128, most: v128, mask: v128, least: v128, rise: v128): v128 {
  const v = rounded(f32x4.pmin(f32x4.div(y, by), most), mask, least, rise);
  const error = f32x4.sub(y, f32x4.mul(v, by));
  return f32x4.mul(error, error);
}

/** The E4M3 code of a magnitude. */
// @ts-ignore: decorator
@inline
function byteOf(value: f32): i32 {
  const m = f32x4.splat(min(value, E4M3_MAX));
  const e = exponentsOf(m, i32x4.splat(EXPONENT), i32x4.splat(E4M3_LEAST));
  const r = i32x4.add(e, i32x4.splat(E4M3_RISE));
  return i32x4.extract_lane(e4m3Code(f32x4.add(m, r), r, e, m), 0);
}

/** The value of an E4M3 code from 0 to 0x7e. */
// @ts-ignore: decorator
@inline
function valueOfByte(byte: i32): f32 {
  return byte < 8 ? <f32>byte * 0.001953125 : reinterpret<f32>((byte + 960) << E4M3_SHIFT);
}

/** Rounds four values to E2M1 and stores what they stand for; their codes. */
// @ts-ignore: decorator
@inline
function e2m1To(
  values: usize,
  x: v128,
  by: v128,
  most: v128,
  mask: v128,
  least: v128,
  rise: v128,
): v128 {
  const t = f32x4.div(x, by), m = f32x4.pmin(f32x4.abs(t), most);
  const e = exponentsOf(m, mask, least), r = i32x4.add(e, rise), sum = f32x4.add(m, r);
  // The sign of a zero is lost, as in the codes of the reference.
  const isBelow = f32x4.lt(t, f32x4.splat(0));
  v128.store(values, f32x4.mul(signed(f32x4.sub(sum, r), isBelow), by));
  const base = i32x4.sub(i32x4.shr_u(e, E2M1_SHIFT), i32x4.splat(E2M1_BIAS));
  const code = i32x4.add(base, i32x4.sub(sum, r));
  return v128.or(code, v128.and(isBelow, i32x4.splat(8)));
}

/** Rounds 16 values to E4M3 and stores what they stand for; their codes. */
// @ts-ignore: decorator
@inline
function e4m3Of16(
  values: usize,
  x: usize,
  by: v128,
  isPower: bool,
  most: v128,
  mask: v128,
  least: v128,
  rise: v128,
): v128 {
  const a = e4m3To(values, v128.load(x), by, isPower, most, mask, least, rise);
  const b = e4m3To(values + 16, v128.load(x, 16), by, isPower, most, mask, least, rise);
  const c = e4m3To(values + 32, v128.load(x, 32), by, isPower, most, mask, least, rise);
  const d = e4m3To(values + 48, v128.load(x, 48), by, isPower, most, mask, least, rise);
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_u(a, b), i16x8.narrow_i32x4_u(c, d));
}

// @ts-ignore: decorator
@inline
function e4m3To(
  values: usize,
  x: v128,
  by: v128,
  isPower: bool,
  most: v128,
  mask: v128,
  least: v128,
  rise: v128,
): v128 {
  const t = isPower ? f32x4.mul(x, inverseOf(by)) : f32x4.div(x, by), m = f32x4.pmin(f32x4.abs(t), most);
  const e = exponentsOf(m, mask, least), r = i32x4.add(e, rise), sum = f32x4.add(m, r);
  v128.store(values, f32x4.mul(signed(f32x4.sub(sum, r), t), by));
  return e4m3Code(sum, r, e, t);
}

/** The codes of magnitudes with the exponents e, from their sums with r, and with the signs of t. */
// @ts-ignore: decorator
@inline
function e4m3Code(sum: v128, r: v128, e: v128, t: v128): v128 {
  const base = i32x4.sub(i32x4.shr_u(e, E4M3_SHIFT), i32x4.splat(E4M3_BIAS));
  const code = i32x4.add(base, i32x4.sub(sum, r));
  return v128.or(code, v128.and(i32x4.shr_u(t, 24), i32x4.splat(0x80)));
}

/** The powers of 2 up to magnitudes, none below the least normal one. */
// @ts-ignore: decorator
@inline
function exponentsOf(m: v128, mask: v128, least: v128): v128 {
  return i32x4.max_s(v128.and(m, mask), least);
}

/** Magnitudes rounded. */
// @ts-ignore: decorator
@inline
function rounded(m: v128, mask: v128, least: v128, rise: v128): v128 {
  const r = i32x4.add(exponentsOf(m, mask, least), rise);
  return f32x4.sub(f32x4.add(m, r), r);
}

/** The magnitudes v with the signs of t. */
// @ts-ignore: decorator
@inline
function signed(v: v128, t: v128): v128 {
  return v128.or(v, v128.and(t, i32x4.splat(SIGN)));
}
