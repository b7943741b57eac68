/**
 * searchLevels: of some sets of levels the one with the least squared error in a group of columns.
 *
 * With u the values in units of 1/32 of their scale, as `quantizeLevels` has them, and L_set(u) the level that
 * it gives them,
 *
 *     error(set) = sum over the group of (u - 32 * L_set(u))^2     modulo 2^32
 *
 * The candidates are first[max |u| >> 5], the set before it, and so on, `candidates` of them, none below 0; of
 * several with the least error it is the first. Sets are in the order of the steps between their levels,
 * so that these are the ones that just reach the largest value, and some that clip it.
 *
 * Integers throughout: the same bits on every device, whatever the order of the sum. A sum does not reach 2^32
 * if values are within the range of their scale: clipping to 3/4 adds 1024^2 a value.
 *
 * Layout as in `quantizeLevels`; choices u8 is the output, first u8 [256]. Class: exact.
 */

import { keepF32, keepI32 } from "./lib/constants";
import {
  largestOf8,
  LEAST,
  levelsOf16,
  MOST,
  placesOf8,
  ROUNDER,
  ROUNDER_BITS,
  STEPS,
  unitsOf8,
} from "./lib/levels";

export function searchLevels(
  choices: usize,
  x: usize,
  scales: usize,
  nearest: usize,
  first: usize,
  candidates: i32,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
  setCols: usize,
): void {
  const steps = keepF32(STEPS), least = keepF32(LEAST), limit = keepI32(MOST);
  const rounder = keepF32(ROUNDER), rounderBits = keepI32(ROUNDER_BITS);
  const scalesPerRow = cols / groupCols;
  for (let r: usize = 0; r < rows; r++) {
    const own = scales + (((r / groupRows) * scalesPerRow) << 2);
    for (let left: usize = 0; left < cols; left += setCols) {
      let most = i16x8.splat(0);
      for (let c: usize = 0; c < setCols; c += 16) {
        const scale = v128.load32_splat(own + (((left + c) / groupCols) << 2));
        const at = x + (c << 2);
        const low = unitsOf8(at, scale, steps, least, rounder, rounderBits, limit);
        const high = unitsOf8(at + 32, scale, steps, least, rounder, rounderBits, limit);
        most = i16x8.max_s(most, i16x8.max_s(i16x8.abs(low), i16x8.abs(high)));
      }
      const start = <i32>load<u8>(first + <usize>(largestOf8(most) >> 5));
      let smallest: u32 = 0, best = -1;
      for (let k: i32 = 0; k < candidates; k++) {
        const set = max<i32>(0, start - k);
        const error = squaredError(x, own, nearest + (<usize>set << 9), left, groupCols, setCols);
        if (best < 0 || error < smallest) {
          smallest = error;
          best = set;
        }
      }
      store<u8>(choices++, <u8>best);
      x += setCols << 2;
    }
  }
}

function squaredError(
  x: usize,
  scales: usize,
  table: usize,
  left: usize,
  groupCols: usize,
  setCols: usize,
): u32 {
  const steps = keepF32(STEPS), least = keepF32(LEAST), most = keepI32(MOST);
  const rounder = keepF32(ROUNDER), rounderBits = keepI32(ROUNDER_BITS);
  let sum = i32x4.splat(0);
  for (let c: usize = 0; c < setCols; c += 16) {
    const scale = v128.load32_splat(scales + (((left + c) / groupCols) << 2));
    const low = unitsOf8(x, scale, steps, least, rounder, rounderBits, most);
    const high = unitsOf8(x + 32, scale, steps, least, rounder, rounderBits, most);
    const levels = levelsOf16(table, placesOf8(low), placesOf8(high));
    const e = i16x8.sub(low, i16x8.shl(i16x8.extend_low_i8x16_s(levels), 5));
    const f = i16x8.sub(high, i16x8.shl(i16x8.extend_high_i8x16_s(levels), 5));
    sum = i32x4.add(sum, i32x4.add(i32x4.dot_i16x8_s(e, e), i32x4.dot_i16x8_s(f, f)));
    x += 64;
  }
  return <u32>i32x4.extract_lane(sum, 0) + <u32>i32x4.extract_lane(sum, 1) +
    <u32>i32x4.extract_lane(sum, 2) + <u32>i32x4.extract_lane(sum, 3);
}
