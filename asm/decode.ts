/**
 * decode: out[i] = f32(source[i]) for the dtypes that hold weights.
 *
 * Layout: n elements of the dtype, little-endian, any alignment; out n f32; not overlapping. Tail: the
 * last vector overlaps the one before it; shorter inputs go one by one, through the same arithmetic.
 * F64 rounds to nearest even (beyond the range of f32: infinity); every other dtype is exact.
 * NaN stays NaN, with any payload. F8_E4M3 has no infinity (0x7f and 0xff are NaN).
 * Class: exact.
 *
 * The small formats widen alike. Shifted into the place of the f32 fields, a magnitude with a nonzero
 * exponent needs the difference of the biases added to its exponent. A subnormal one, given the
 * exponent of the smallest normal, is too large by that normal, which one exact subtraction removes;
 * unlike a multiplication by a power of two it meets no f32 subnormal, which some CPUs handle slowly.
 */

import { keepI32 } from "./lib/constants";

export function decodeF32(out: usize, source: usize, n: usize): void {
  memory.copy(out, source, n << 2);
}

export function decodeF64(out: usize, source: usize, n: usize): void {
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const p = source + (i << 3);
    const low = f32x4.demote_f64x2_zero(v128.load(p));
    const high = f32x4.demote_f64x2_zero(v128.load(p, 16));
    v128.store(out + (i << 2), v128.shuffle<u64>(low, high, 0, 2));
  }
  for (; i < n; i++) store<f32>(out + (i << 2), <f32>load<f64>(source + (i << 3)));
}

export function decodeBf16(out: usize, source: usize, n: usize): void {
  if (n < 8) {
    for (let i: usize = 0; i < n; i++) {
      store<u32>(out + (i << 2), <u32>load<u16>(source + (i << 1)) << 16);
    }
    return;
  }
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    bf16x8(out + (i << 2), source + (i << 1));
    bf16x8(out + (i << 2) + 32, source + (i << 1) + 16);
  }
  if (i + 8 <= n) bf16x8(out + (i << 2), source + (i << 1));
  if ((n & 7) != 0) bf16x8(out + ((n - 8) << 2), source + ((n - 8) << 1));
}

// @ts-ignore: decorator
@inline
function bf16x8(out: usize, source: usize): void {
  const zero = i64x2.splat(0), v = v128.load(source);
  v128.store(out, v128.shuffle<u16>(zero, v, 0, 8, 1, 9, 2, 10, 3, 11));
  v128.store(out, v128.shuffle<u16>(zero, v, 4, 12, 5, 13, 6, 14, 7, 15), 16);
}

export function decodeF16(out: usize, source: usize, n: usize): void {
  const rebias = keepI32((127 - 15) << 23), one = keepI32(1 << 23);
  const normal = keepI32((127 - 14) << 23); // 2^-14, the smallest normal
  const special = keepI32((31 << 23) - 1), infinite = keepI32(0x7f800000);
  if (n < 8) {
    for (let i: usize = 0; i < n; i++) {
      const v = i32x4.splat(<i32>load<u16>(source + (i << 1)));
      v128.store32_lane(out + (i << 2), widen(v, 17, 4, rebias, one, normal, special, infinite), 0);
    }
    return;
  }
  // The last step repeats values of the one before if n is not a multiple of 8.
  for (let i: usize = 0; i < n; i += 8) {
    const at = min(i, n - 8);
    const v = v128.load(source + (at << 1)), p = out + (at << 2);
    const a = i32x4.extend_low_i16x8_u(v), b = i32x4.extend_high_i16x8_u(v);
    v128.store(p, widen(a, 17, 4, rebias, one, normal, special, infinite));
    v128.store(p, widen(b, 17, 4, rebias, one, normal, special, infinite), 16);
  }
}

/** F8_E5M2: the upper byte of a binary16, so 8 more bits to shift. */
export function decodeF8E5m2(out: usize, source: usize, n: usize): void {
  const rebias = keepI32((127 - 15) << 23), one = keepI32(1 << 23);
  const normal = keepI32((127 - 14) << 23); // 2^-14
  const special = keepI32((31 << 23) - 1), infinite = keepI32(0x7f800000);
  bytes(out, source, n, 4, rebias, one, normal, special, infinite);
}

/** F8_E4M3: one special magnitude, all bits set, which `infinite` turns into a NaN. */
export function decodeF8E4m3(out: usize, source: usize, n: usize): void {
  const rebias = keepI32((127 - 7) << 23), one = keepI32(1 << 23);
  const normal = keepI32((127 - 6) << 23); // 2^-6
  const special = keepI32((0x7f << 20) - 1), infinite = keepI32(0x7fc00000);
  bytes(out, source, n, 5, rebias, one, normal, special, infinite);
}

// @ts-ignore: decorator
@inline
function bytes(
  out: usize,
  source: usize,
  n: usize,
  right: i32,
  rebias: v128,
  one: v128,
  normal: v128,
  special: v128,
  infinite: v128,
): void {
  if (n < 16) {
    for (let i: usize = 0; i < n; i++) {
      const v = i32x4.splat(<i32>load<u8>(source + i));
      const value = widen(v, 25, right, rebias, one, normal, special, infinite);
      v128.store32_lane(out + (i << 2), value, 0);
    }
    return;
  }
  for (let i: usize = 0; i < n; i += 16) {
    const at = min(i, n - 16);
    const v = v128.load(source + at), p = out + (at << 2);
    const low = i16x8.extend_low_i8x16_u(v), high = i16x8.extend_high_i8x16_u(v);
    const a = i32x4.extend_low_i16x8_u(low), b = i32x4.extend_high_i16x8_u(low);
    const c = i32x4.extend_low_i16x8_u(high), d = i32x4.extend_high_i16x8_u(high);
    v128.store(p, widen(a, 25, right, rebias, one, normal, special, infinite));
    v128.store(p, widen(b, 25, right, rebias, one, normal, special, infinite), 16);
    v128.store(p, widen(c, 25, right, rebias, one, normal, special, infinite), 32);
    v128.store(p, widen(d, 25, right, rebias, one, normal, special, infinite), 48);
  }
}

/**
 * Four numbers of a small format in the low bits of i32 lanes, as f32.
 *
 * left: shifts out the sign and all above it. right: then places exponent and mantissa where f32 has
 * them. rebias: difference of the exponent biases, and one: 1, both in the exponent field. normal: the
 * smallest normal, as f32. special: magnitudes above it get all bits of `infinite`.
 */
// @ts-ignore: decorator
@inline
function widen(
  v: v128,
  left: i32,
  right: i32,
  rebias: v128,
  one: v128,
  normal: v128,
  special: v128,
  infinite: v128,
): v128 {
  const magnitude = i32x4.shr_u(i32x4.shl(v, left), right);
  const sign = i32x4.shl(i32x4.shr_u(v, 32 - left), 31);
  const large = i32x4.add(magnitude, rebias);
  const small = f32x4.sub(i32x4.add(large, one), normal);
  const bits = v128.bitselect(small, large, i32x4.lt_s(magnitude, one));
  const overlay = v128.and(i32x4.gt_s(magnitude, special), infinite);
  return v128.or(v128.or(bits, sign), overlay);
}
