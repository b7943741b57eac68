/**
 * searchCodeLevels: of some sets of at most 16 levels the one that is nearest to the int8 codes of a group.
 *
 *     error(set) = sum over the group of (code - level)^2,  level = levels[number of middles below code]
 *
 * the difference held to -128 to 127. A set has 32 bytes: the middles between its levels, rounded down, 15 and one
 * that is not used; then its 16 levels. Candidates are first[max |code|], the set before it, and so on,
 * `candidates` of them, none below 0; of several with the least error it is the first.
 *
 * Codes are what `quantize` gives: values rounded to whole steps of the finest grid. That costs next to nothing
 * where levels lie some steps apart, and makes all of it arithmetic on bytes: 16 values at a time, whose
 * levels are found in four steps of a binary search that looks bytes up in a vector.
 *
 * Layout: codes i8 [groups, setCols], choices u8 [groups], steps i8 [sets, 32], first u8 [128]; setCols is a
 * multiple of 16, at most 65536. Class: exact.
 */
export function searchCodeLevels(
  choices: usize,
  codes: usize,
  steps: usize,
  first: usize,
  candidates: i32,
  groups: usize,
  setCols: usize,
): void {
  for (let g: usize = 0; g < groups; g++) {
    let most = i8x16.splat(0);
    for (let c: usize = 0; c < setCols; c += 16) {
      most = i8x16.max_u(most, i8x16.abs(v128.load(codes + c)));
    }
    const start = <i32>load<u8>(first + largestOf16(most));
    let least: u32 = 0, best = -1;
    for (let k: i32 = 0; k < candidates; k++) {
      const set = max<i32>(0, start - k), table = steps + (<usize>set << 5);
      let sum = i32x4.splat(0);
      for (let c: usize = 0; c < setCols; c += 16) sum = addErrors(sum, v128.load(codes + c), table);
      const error = <u32>i32x4.extract_lane(sum, 0) + <u32>i32x4.extract_lane(sum, 1) +
        <u32>i32x4.extract_lane(sum, 2) + <u32>i32x4.extract_lane(sum, 3);
      if (best < 0 || error < least) {
        least = error;
        best = set;
      }
    }
    store<u8>(choices + g, <u8>best);
    codes += setCols;
  }
}

// @ts-ignore: decorator
@inline
function addErrors(sum: v128, code: v128, table: usize): v128 {
  const middles = v128.load(table), levels = v128.load(table, 16);
  let at = v128.and(i8x16.gt_s(code, v128.load8_splat(table, 7)), i8x16.splat(8));
  let middle = i8x16.swizzle(middles, i8x16.add(at, i8x16.splat(3)));
  at = v128.or(at, v128.and(i8x16.gt_s(code, middle), i8x16.splat(4)));
  middle = i8x16.swizzle(middles, i8x16.add(at, i8x16.splat(1)));
  at = v128.or(at, v128.and(i8x16.gt_s(code, middle), i8x16.splat(2)));
  middle = i8x16.swizzle(middles, at);
  at = i8x16.sub(at, i8x16.gt_s(code, middle));
  const e = i8x16.sub_sat_s(code, i8x16.swizzle(levels, at));
  const low = i16x8.extmul_low_i8x16_s(e, e), high = i16x8.extmul_high_i8x16_s(e, e);
  // Squares are at most 2^14: two of them fit 16 bits without a sign.
  return i32x4.add(
    sum,
    i32x4.add(i32x4.extadd_pairwise_i16x8_u(low), i32x4.extadd_pairwise_i16x8_u(high)),
  );
}

/** The largest of 16 bytes without a sign. */
// @ts-ignore: decorator
@inline
function largestOf16(v: v128): usize {
  let m = i8x16.max_u(v, v128.shuffle<i64>(v, v, 1, 0));
  m = i8x16.max_u(m, v128.shuffle<i32>(m, m, 1, 0, 3, 2));
  m = i8x16.max_u(m, v128.shuffle<i16>(m, m, 1, 0, 3, 2, 5, 4, 7, 6));
  return max<usize>(i8x16.extract_lane_u(m, 0), i8x16.extract_lane_u(m, 1));
}
