/**
 * countNonFinite: how many values are NaN or infinite; firstNonFinite: the index of the first.
 *
 * Layout: x n f32, any alignment. Tail: one by one. Class: exact (a test of the exponent bits).
 * The position is a second kernel, for a scan that only a broken tensor needs.
 */

import { keepI32 } from "./lib/constants";

const EXPONENT: i32 = 0x7f800000;

export function countNonFinite(x: usize, n: usize): i32 {
  const exponent = keepI32(EXPONENT);
  let c0 = i64x2.splat(0), c1 = c0;
  let i: usize = 0;
  for (; i + 8 <= n; i += 8) {
    const p = x + (i << 2);
    // A true comparison is -1 in its lane.
    c0 = i32x4.sub(c0, i32x4.eq(v128.and(v128.load(p), exponent), exponent));
    c1 = i32x4.sub(c1, i32x4.eq(v128.and(v128.load(p, 16), exponent), exponent));
  }
  c0 = i32x4.add(c0, c1);
  let count = i32x4.extract_lane(c0, 0) + i32x4.extract_lane(c0, 1) + i32x4.extract_lane(c0, 2) +
    i32x4.extract_lane(c0, 3);
  for (; i < n; i++) count += isNonFinite(x, i);
  return count;
}

/** The index of the first NaN or infinity, -1 if there is none. */
export function firstNonFinite(x: usize, n: usize): i32 {
  for (let i: usize = 0; i < n; i++) {
    if (isNonFinite(x, i)) return <i32>i;
  }
  return -1;
}

// @ts-ignore: decorator
@inline
function isNonFinite(x: usize, i: usize): i32 {
  return <i32>((load<i32>(x + (i << 2)) & EXPONENT) == EXPONENT);
}
