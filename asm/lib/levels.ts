/** Values in units of 1/32 of their scale, and the place of the nearest level in a table of half steps. */

import { keepF32 } from "./constants";

const STEPS: f32 = 32, MOST: f32 = 8191;

/** The quotients of 16 values at `x`, as i16 units: two vectors of 8. NaN: 0. */
// @ts-ignore: decorator
@inline
export function unitsOf8(x: usize, scale: v128): v128 {
  return i16x8.narrow_i32x4_s(unitsOf4(v128.load(x), scale), unitsOf4(v128.load(x, 16), scale));
}

// @ts-ignore: decorator
@inline
function unitsOf4(x: v128, scale: v128): v128 {
  const t = f32x4.mul(f32x4.div(x, scale), keepF32(STEPS));
  const inside = f32x4.pmin(keepF32(MOST), f32x4.pmax(keepF32(-MOST), t));
  return i32x4.trunc_sat_f32x4_s(v128.and(f32x4.nearest(inside), f32x4.eq(t, t)));
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
