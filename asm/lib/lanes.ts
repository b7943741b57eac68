/** The common parts of the kernels: loads of a part of a vector, and sums and maxima across lanes. */

/** Loads `count` (1..3) f32 at `p` into the low lanes; the others are +0. Reads nothing beyond them. */
// @ts-ignore: decorator
@inline
export function loadPartF32(p: usize, count: usize): v128 {
  if (count == 1) return v128.load32_zero(p);
  const low = v128.load64_zero(p);
  return count == 2 ? low : v128.load32_lane(p, low, 2, 8);
}

/** (lane 0 + lane 1) + (lane 2 + lane 3), in f32. */
// @ts-ignore: decorator
@inline
export function sumLanesF32(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) +
    (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** The same sum, each lane widened to f64 first. */
// @ts-ignore: decorator
@inline
export function sumLanesF64(v: v128): f64 {
  return (<f64>f32x4.extract_lane(v, 0) + <f64>f32x4.extract_lane(v, 1)) +
    (<f64>f32x4.extract_lane(v, 2) + <f64>f32x4.extract_lane(v, 3));
}

/** The largest lane. No lane may be NaN. */
// @ts-ignore: decorator
@inline
export function maxLanesF32(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  );
}
