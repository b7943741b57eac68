/** Values in units of 1/32 of their scale, and the place of the nearest level in a table of half steps. */

/** 1.5 * 2^23: floats around it are integers, so adding it rounds to an integer, ties to even. */
export const ROUNDER: f32 = 12582912;
/** The bits of ROUNDER; those of ROUNDER + q are larger by q. */
export const ROUNDER_BITS: i32 = 0x4b400000;
/** Units of a scale, the most of them, and the same in two lanes. */
export const STEPS: f32 = 32, LEAST: f32 = -8191, MOST: i32 = 0x1fff1fff;

/**
 * The quotients of 8 values at `x`, as i16 units. NaN: 0. The constants, from before the loop: STEPS, LEAST,
 * ROUNDER, ROUNDER_BITS and MOST. What is too large for them is still large and positive, and saturates.
 */
// @ts-ignore: decorator
@inline
export function unitsOf8(
  x: usize,
  scale: v128,
  steps: v128,
  least: v128,
  rounder: v128,
  rounderBits: v128,
  most: v128,
): v128 {
  const low = unitsOf4(v128.load(x), scale, steps, least, rounder, rounderBits);
  const high = unitsOf4(v128.load(x, 16), scale, steps, least, rounder, rounderBits);
  return i16x8.min_s(most, i16x8.narrow_i32x4_s(low, high));
}

// @ts-ignore: decorator
@inline
function unitsOf4(
  x: v128,
  scale: v128,
  steps: v128,
  least: v128,
  rounder: v128,
  rounderBits: v128,
): v128 {
  const t = f32x4.mul(f32x4.div(x, scale), steps);
  const number = v128.and(t, f32x4.eq(t, t));
  return i32x4.sub(f32x4.add(f32x4.pmax(least, number), rounder), rounderBits);
}

/** Places in the table of a set, from 0 to 511, of 8 values in units. */
// @ts-ignore: decorator
@inline
export function placesOf8(units: v128): v128 {
  const halves = i16x8.shr_s(i16x8.add(units, i16x8.splat(15)), 4);
  const inside = i16x8.min_s(i16x8.splat(256), i16x8.max_s(i16x8.splat(-255), halves));
  return i16x8.add(inside, i16x8.splat(255));
}

/** The levels of 16 values, i8, from the table of their set. */
// @ts-ignore: decorator
@inline
export function levelsOf16(table: usize, low: v128, high: v128): v128 {
  let l = i8x16.splat(0);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 0), l, 0);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 1), l, 1);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 2), l, 2);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 3), l, 3);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 4), l, 4);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 5), l, 5);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 6), l, 6);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(low, 7), l, 7);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 0), l, 8);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 1), l, 9);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 2), l, 10);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 3), l, 11);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 4), l, 12);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 5), l, 13);
  l = v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 6), l, 14);
  return v128.load8_lane(table + <usize>i16x8.extract_lane_u(high, 7), l, 15);
}

/** The sums of the lanes of four vectors of i32, one in each lane. */
// @ts-ignore: decorator
@inline
export function sumsOf4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  return i32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
}

/** The place of the first of four numbers without a sign that no other is below. */
// @ts-ignore: decorator
@inline
export function leastOf4(errors: v128): i32 {
  let least = <u32>i32x4.extract_lane(errors, 0), best = 0, error: u32;
  error = <u32>i32x4.extract_lane(errors, 1);
  best = select<i32>(1, best, error < least), least = min<u32>(error, least);
  error = <u32>i32x4.extract_lane(errors, 2);
  best = select<i32>(2, best, error < least), least = min<u32>(error, least);
  error = <u32>i32x4.extract_lane(errors, 3);
  return select<i32>(3, best, error < least);
}

/** The largest of 8 numbers. */
// @ts-ignore: decorator
@inline
export function largestOf8(v: v128): i32 {
  let m = i16x8.max_s(v, v128.shuffle<i16>(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  m = i16x8.max_s(m, v128.shuffle<i16>(m, m, 2, 3, 0, 1, 6, 7, 4, 5));
  return max<i32>(i16x8.extract_lane_s(m, 0), i16x8.extract_lane_s(m, 1));
}

/** How many middles of the tree at `table` lie below each of 16 whole steps; `two` and `leaf` are bytes of 2 and 16. */
// @ts-ignore: decorator
@inline
export function middlesBelow(c: v128, table: usize, two: v128, leaf: v128): v128 {
  const middles = v128.load(table);
  let at = i8x16.sub(two, i8x16.gt_s(c, v128.load8_splat(table, 1)));
  at = i8x16.sub(i8x16.add(at, at), i8x16.gt_s(c, i8x16.swizzle(middles, at)));
  at = i8x16.sub(i8x16.add(at, at), i8x16.gt_s(c, i8x16.swizzle(middles, at)));
  at = i8x16.sub(i8x16.add(at, at), i8x16.gt_s(c, i8x16.swizzle(middles, at)));
  return i8x16.sub(at, leaf);
}

/** Entries j of a table of 32 bytes; `half` is bytes of 16. */
// @ts-ignore: decorator
@inline
export function entryOf(j: v128, table: usize, half: v128): v128 {
  // Places beyond 15 give 0; so do those below 16, less 16.
  const high = i8x16.swizzle(v128.load(table, 16), i8x16.sub(j, half));
  return v128.or(i8x16.swizzle(v128.load(table), j), high);
}
