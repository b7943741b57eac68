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
  if (n < 8) {
    for (let i: usize = 0; i < n; i++) {
      const v = i32x4.splat(<i32>load<u16>(source + (i << 1)));
      v128.store32_lane(out + (i << 2), f16ToF32(v), 0);
    }
    return;
  }
  let i: usize = 0;
  for (; i + 8 <= n; i += 8) f16x8(out + (i << 2), v128.load(source + (i << 1)));
  if (i < n) f16x8(out + ((n - 8) << 2), v128.load(source + ((n - 8) << 1)));
}

// @ts-ignore: decorator
@inline
function f16x8(out: usize, v: v128): void {
  v128.store(out, f16ToF32(i32x4.extend_low_i16x8_u(v)));
  v128.store(out, f16ToF32(i32x4.extend_high_i16x8_u(v)), 16);
}

/** Four binary16 in the low halves of i32 lanes. Exponent bias 15, 10 mantissa bits. */
// @ts-ignore: decorator
@inline
function f16ToF32(v: v128): v128 {
  const magnitude = i32x4.shl(v128.and(v, i32x4.splat(0x7fff)), 13);
  const normal = i32x4.add(magnitude, i32x4.splat((127 - 15) << 23));
  const subnormal = f32x4.sub(
    i32x4.add(magnitude, i32x4.splat((127 - 14) << 23)),
    f32x4.splat(<f32>6.103515625e-5), // 2^-14, the smallest normal
  );
  let bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(1 << 23)));
  // Exponent 31: infinity and NaN take the largest f32 exponent, the mantissa stays.
  const special = i32x4.gt_s(magnitude, i32x4.splat((31 << 23) - 1));
  bits = v128.or(bits, v128.and(special, i32x4.splat(0x7f800000)));
  return v128.or(bits, i32x4.shl(v128.and(v, i32x4.splat(0x8000)), 16));
}

export function decodeF8E5m2(out: usize, source: usize, n: usize): void {
  if (n < 16) {
    for (let i: usize = 0; i < n; i++) {
      const v = i32x4.splat(<i32>load<u8>(source + i) << 8);
      v128.store32_lane(out + (i << 2), f16ToF32(v), 0);
    }
    return;
  }
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) f8e5m2x16(out + (i << 2), v128.load(source + i));
  if (i < n) f8e5m2x16(out + ((n - 16) << 2), v128.load(source + n - 16));
}

/** An F8_E5M2 is the upper byte of a binary16. */
// @ts-ignore: decorator
@inline
function f8e5m2x16(out: usize, v: v128): void {
  f16x8(out, i16x8.shl(i16x8.extend_low_i8x16_u(v), 8));
  f16x8(out + 32, i16x8.shl(i16x8.extend_high_i8x16_u(v), 8));
}

export function decodeF8E4m3(out: usize, source: usize, n: usize): void {
  if (n < 16) {
    for (let i: usize = 0; i < n; i++) {
      const v = i32x4.splat(<i32>load<u8>(source + i));
      v128.store32_lane(out + (i << 2), f8e4m3ToF32(v), 0);
    }
    return;
  }
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) f8e4m3x16(out + (i << 2), v128.load(source + i));
  if (i < n) f8e4m3x16(out + ((n - 16) << 2), v128.load(source + n - 16));
}

// @ts-ignore: decorator
@inline
function f8e4m3x16(out: usize, v: v128): void {
  const low = i16x8.extend_low_i8x16_u(v), high = i16x8.extend_high_i8x16_u(v);
  v128.store(out, f8e4m3ToF32(i32x4.extend_low_i16x8_u(low)));
  v128.store(out, f8e4m3ToF32(i32x4.extend_high_i16x8_u(low)), 16);
  v128.store(out, f8e4m3ToF32(i32x4.extend_low_i16x8_u(high)), 32);
  v128.store(out, f8e4m3ToF32(i32x4.extend_high_i16x8_u(high)), 48);
}

/** Four F8_E4M3 in the low bytes of i32 lanes. Exponent bias 7, 3 mantissa bits. */
// @ts-ignore: decorator
@inline
function f8e4m3ToF32(v: v128): v128 {
  const field = v128.and(v, i32x4.splat(0x7f));
  const magnitude = i32x4.shl(field, 20);
  const normal = i32x4.add(magnitude, i32x4.splat((127 - 7) << 23));
  const subnormal = f32x4.sub(
    i32x4.add(magnitude, i32x4.splat((127 - 6) << 23)),
    f32x4.splat(0.015625), // 2^-6, the smallest normal
  );
  let bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(1 << 23)));
  bits = v128.bitselect(i32x4.splat(0x7fc00000), bits, i32x4.eq(field, i32x4.splat(0x7f)));
  return v128.or(bits, i32x4.shl(v128.and(v, i32x4.splat(0x80)), 24));
}
