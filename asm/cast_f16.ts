/**
 * castF16: out[i] = binary16(x[i]), ties to even; returns the index of the first finite value that
 * becomes infinite (its magnitude is 65520 or more), -1 where there is none.
 *
 * Layout: x n f32, out n u16, any alignment; not in place. Tail: the last 8 overlap those before;
 * fewer than 8 go one by one.
 * NaN: 0x7e00 with its sign. Infinity stays. Subnormal results are rounded once, like all others.
 * Class: exact.
 */

const SIGN: i32 = <i32>0x80000000;
/** Bits of the f32 from which on binary16 rounds to infinity: 65520. */
const OVERFLOW: i32 = 0x477ff000;
/** Bits of the smallest normal binary16, 2^-14. */
const NORMAL: i32 = 0x38800000;
const INFINITE: i32 = 0x7f800000;
/** Bits of 0.5, whose last place is 2^-24, the unit of subnormal binary16. */
const HALF: i32 = 0x3f000000;

export function castF16(out: usize, x: usize, n: usize): i32 {
  if (n < 8) {
    for (let i: usize = 0; i < n; i++) {
      const v = v128.load32_splat(x + (i << 2));
      v128.store16_lane(out + (i << 1), halves(v), 0);
    }
    return anyOverflow(x, n) ? firstOverflow(x, n) : -1;
  }
  let i: usize = 0;
  for (; i + 8 <= n; i += 8) halves8(out + (i << 1), x + (i << 2));
  if (i < n) halves8(out + ((n - 8) << 1), x + ((n - 8) << 2));
  return anyOverflow(x, n) ? firstOverflow(x, n) : -1;
}

// @ts-ignore: decorator
@inline
function halves8(out: usize, x: usize): void {
  v128.store(out, i16x8.narrow_i32x4_u(halves(v128.load(x)), halves(v128.load(x, 16))));
}

/** The binary16 bits of four f32, each in an i32 lane. */
// @ts-ignore: decorator
@inline
function halves(v: v128): v128 {
  const magnitude = v128.andnot(v, i32x4.splat(SIGN));
  const sign = v128.and(i32x4.shr_u(v, 16), i32x4.splat(0x8000));
  // Normal results: move the exponent bias from 127 to 15, round the 13 bits that go, ties to even.
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const rounding = i32x4.add(odd, i32x4.splat(0xfff - 0x38000000));
  const normal = i32x4.shr_u(i32x4.add(magnitude, rounding), 13);
  // Subnormal results: adding 0.5 lets the hardware round to units of 2^-24.
  const subnormal = i32x4.sub(
    f32x4.add(magnitude, i32x4.splat(HALF)),
    i32x4.splat(HALF),
  );
  let bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(NORMAL)));
  bits = v128.bitselect(
    i32x4.splat(0x7c00),
    bits,
    i32x4.gt_s(magnitude, i32x4.splat(OVERFLOW - 1)),
  );
  bits = v128.bitselect(i32x4.splat(0x7e00), bits, i32x4.gt_s(magnitude, i32x4.splat(INFINITE)));
  return v128.or(bits, sign);
}

/** Whether a finite value is too large. Cheap next to the conversion, and keeps that one branch-free. */
function anyOverflow(x: usize, n: usize): bool {
  const low = i32x4.splat(OVERFLOW - 1), high = i32x4.splat(INFINITE), sign = i32x4.splat(SIGN);
  let found = i64x2.splat(0);
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const magnitude = v128.andnot(v128.load(x + (i << 2)), sign);
    found = v128.or(
      found,
      v128.and(i32x4.gt_s(magnitude, low), i32x4.lt_s(magnitude, high)),
    );
  }
  for (; i < n; i++) {
    if (overflows(x, i)) return true;
  }
  return v128.any_true(found);
}

function firstOverflow(x: usize, n: usize): i32 {
  for (let i: usize = 0; i < n; i++) {
    if (overflows(x, i)) return <i32>i;
  }
  return -1;
}

// @ts-ignore: decorator
@inline
function overflows(x: usize, i: usize): bool {
  const magnitude = load<i32>(x + (i << 2)) & ~SIGN;
  return magnitude >= OVERFLOW && magnitude < INFINITE;
}
