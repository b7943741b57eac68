/**
 * histogram: counts[min(floor(|x| * binsPerUnit), bins - 1)] += 1 for every value.
 *
 * Layout: x n f32, any alignment; counts u32 [bins], added to. Tail: one by one.
 * NaN (also inf * 0) counts in bin 0, infinity in the last. Class: exact (one f32 multiplication).
 */

export function histogram(counts: usize, x: usize, n: usize, bins: i32, binsPerUnit: f32): void {
  const factor = f32x4.splat(binsPerUnit), last = i32x4.splat(bins - 1);
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const t = f32x4.mul(f32x4.abs(v128.load(x + (i << 2))), factor);
    // The saturating conversion gives 0 for NaN and a huge index, cut by the minimum, for infinity.
    const bin = i32x4.min_s(i32x4.trunc_sat_f32x4_s(t), last);
    increment(counts, i32x4.extract_lane(bin, 0));
    increment(counts, i32x4.extract_lane(bin, 1));
    increment(counts, i32x4.extract_lane(bin, 2));
    increment(counts, i32x4.extract_lane(bin, 3));
  }
  for (; i < n; i++) {
    const t = f32x4.mul(f32x4.abs(v128.load32_zero(x + (i << 2))), factor);
    increment(counts, i32x4.extract_lane(i32x4.min_s(i32x4.trunc_sat_f32x4_s(t), last), 0));
  }
}

// @ts-ignore: decorator
@inline
function increment(counts: usize, bin: i32): void {
  const p = counts + (<usize>bin << 2);
  store<u32>(p, load<u32>(p) + 1);
}
