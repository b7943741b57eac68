/**
 * castF16: out[i] = binary16(x[i]), ties to even; returns the index of the first finite value that
 * becomes infinite (its magnitude is 65520 or more), -1 if there is none.
 *
 * Layout: x n f32, out n u16, any alignment; not in place. Tail: the last 8 overlap those before;
 * fewer than 8 go one by one.
 * NaN: 0x7e00 with its sign. Infinity stays. Subnormal results are rounded once, like all others.
 * Class: exact.
 */

import { keepI32 } from "./lib/constants";

/** Bits of the f32 from which on binary16 rounds to infinity: 65520. */
const OVERFLOW: i32 = 0x477ff000;
const INFINITE: i32 = 0x7f800000;

export function castF16(out: usize, x: usize, n: usize): i32 {
  cast(out, x, n);
  return anyOverflow(x, n) ? firstOverflow(x, n) : -1;
}

function cast(out: usize, x: usize, n: usize): void {
  const largest = keepI32(0x47800000); // 65536
  const rounding = keepI32(0xfff - 0x38000000);
  const normal = keepI32(0x38800000); // 2^-14, the smallest normal binary16
  const half = keepI32(0x3f000000); // 0.5
  const infinite = keepI32(INFINITE), nan = keepI32(0x7e00);
  if (n < 8) {
    for (let i: usize = 0; i < n; i++) {
      const v = v128.load32_zero(x + (i << 2));
      const bits = halves(v, largest, rounding, normal, half, infinite, nan);
      v128.store16_lane(out + (i << 1), bits, 0);
    }
    return;
  }
  // The last step repeats values of the one before if n is not a multiple of 8.
  for (let i: usize = 0; i < n; i += 8) {
    const at = min(i, n - 8);
    const a = v128.load(x + (at << 2)), b = v128.load(x + (at << 2), 16);
    const low = halves(a, largest, rounding, normal, half, infinite, nan);
    const high = halves(b, largest, rounding, normal, half, infinite, nan);
    v128.store(out + (at << 1), i16x8.narrow_i32x4_u(low, high));
  }
}

/** The binary16 bits of four f32, each in an i32 lane. */
// @ts-ignore: decorator
@inline
function halves(
  v: v128,
  largest: v128,
  rounding: v128,
  normal: v128,
  half: v128,
  infinite: v128,
  nan: v128,
): v128 {
  const magnitude = i32x4.shr_u(i32x4.shl(v, 1), 1);
  const sign = i32x4.shl(i32x4.shr_u(v, 31), 15);
  // Normal results: move the exponent bias from 127 to 15 and round the 13 bits that go, ties to even.
  // Everything from 65536 on becomes infinity as that does.
  const cut = i32x4.min_s(magnitude, largest);
  const odd = i32x4.shr_u(i32x4.shl(cut, 18), 31);
  const big = i32x4.shr_u(i32x4.add(cut, i32x4.add(odd, rounding)), 13);
  // Subnormal ones: the last place of 0.5 is 2^-24, their unit, so adding 0.5 rounds to it.
  const small = i32x4.sub(f32x4.add(magnitude, half), half);
  const bits = v128.bitselect(small, big, i32x4.lt_s(magnitude, normal));
  return v128.or(v128.or(bits, sign), v128.and(i32x4.gt_s(magnitude, infinite), nan));
}

/** Whether a finite value is too large. Cheap next to the conversion, and keeps that one branch-free. */
function anyOverflow(x: usize, n: usize): bool {
  const low = keepI32(OVERFLOW - 1), high = keepI32(INFINITE);
  let found = i64x2.splat(0);
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const magnitude = i32x4.shr_u(i32x4.shl(v128.load(x + (i << 2)), 1), 1);
    found = v128.or(found, v128.and(i32x4.gt_s(magnitude, low), i32x4.lt_s(magnitude, high)));
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
  const magnitude = load<i32>(x + (i << 2)) & 0x7fffffff;
  return magnitude >= OVERFLOW && magnitude < INFINITE;
}
