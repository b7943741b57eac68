/**
 * quantizeLevels: the level nearest to x / scale, of the set of levels that the group of the value has.
 *
 *     u    = clamp(roundHalfEven((x / s) * 32), -8191, 8191)          NaN: 0
 *     code = nearest[set * 512 + clamp((u + 15) >> 4, -255, 256) + 255]
 *
 * Entry h + 255 of a set is its level nearest to what lies above (h - 1) / 2, up to h / 2: as levels are
 * integers, the middles between them are multiples of 1/2, so that no other resolution is needed. Of two
 * levels as near it is the lower one. Rounding to 1/32 first moves what is within 1/64 of a middle.
 *
 * Layout: x f32 and codes i8 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], choices
 * u8 [rows, cols / setCols], nearest i8 [sets, 512]. Any alignment. setCols is a multiple of 16 and divides
 * cols; groupCols is a multiple of 16, as a group of scales is one of whole sets or the set whole groups.
 * Infinity: the outermost level. Class: exact. The division is a true one.
 */

import { keepF32, keepI32 } from "./lib/constants";
import {
  LEAST,
  levelsOf16,
  MOST,
  placesOf8,
  ROUNDER,
  ROUNDER_BITS,
  STEPS,
  unitsOf8,
} from "./lib/levels";

export function quantizeLevels(
  codes: usize,
  x: usize,
  scales: usize,
  choices: usize,
  nearest: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
  setCols: usize,
): void {
  const steps = keepF32(STEPS), least = keepF32(LEAST), most = keepI32(MOST);
  const rounder = keepF32(ROUNDER), rounderBits = keepI32(ROUNDER_BITS);
  const scalesPerRow = cols / groupCols;
  for (let r: usize = 0; r < rows; r++) {
    const own = scales + (((r / groupRows) * scalesPerRow) << 2);
    for (let left: usize = 0; left < cols; left += setCols) {
      const table = nearest + (<usize>load<u8>(choices++) << 9);
      for (let c = left; c < left + setCols; c += 16) {
        const scale = v128.load32_splat(own + ((c / groupCols) << 2));
        const low = unitsOf8(x, scale, steps, least, rounder, rounderBits, most);
        const high = unitsOf8(x + 32, scale, steps, least, rounder, rounderBits, most);
        v128.store(codes, levelsOf16(table, placesOf8(low), placesOf8(high)));
        codes += 16;
        x += 64;
      }
    }
  }
}
