/**
 * packLevels: levels as the codes of a file, 4 or 6 bits each.
 *
 *     code = codes[set * 256 + level + 128]
 *
 * A row has its low nibbles first, two columns in a byte, the even one in the low half; then, of 6 bits, the two
 * high bits of every code, four columns in a byte, the first in the lowest bits.
 *
 * Layout: levels i8 [rows, cols] row-major, choices u8 [rows, cols / setCols], codes u8 [sets, 256], packed
 * u8 [rows, cols * bits / 8]. setCols is a multiple of 16 and divides cols. Any alignment. Class: exact.
 *
 * With the sets of `roundToTable` (kind 1, steps i8 [sets, 48]) or `roundToSteps` (kind 2, steps u8 [sets, 80])
 * the same codes are found without looking up each: as the number of middles below a level, and as the
 * magnitude that it is, from 32 on. Sets whose byte 66 is not 0 have other codes and are looked up.
 */

import { keepI32 } from "./lib/constants";
import { entryOf, middlesBelow } from "./lib/levels";

export function packLevels(
  packed: usize,
  levels: usize,
  choices: usize,
  codes: usize,
  kind: i32,
  steps: usize,
  bits: i32,
  rows: usize,
  cols: usize,
  setCols: usize,
): void {
  const two = keepI32(0x02020202), leaf = keepI32(0x10101010), middle = keepI32(0x20202020);
  for (let r: usize = 0; r < rows; r++) {
    const high = packed + (cols >> 1);
    for (let left: usize = 0; left < cols; left += setCols) {
      const set = <usize>load<u8>(choices++), table = codes + (set << 8) + 128;
      const tree = steps + set * 48, even = steps + set * 80;
      const isEven = kind == 2 && load<u8>(even, 66) == 0;
      for (let c = left; c < left + setCols; c += 16) {
        const own = v128.load(levels);
        levels += 16;
        const code = kind == 1
          ? middlesBelow(own, tree, two, leaf)
          : isEven
          ? placesOf16(own, even, middle, leaf)
          : codesOf16(table, own);
        storeLow(packed + (c >> 1), code);
        if (bits == 6) storeHigh(high + (c >> 2), code);
      }
    }
    packed += cols * <usize>bits >> 3;
  }
}

/** The low nibbles of 16 codes, two in a byte. */
// @ts-ignore: decorator
@inline
function storeLow(to: usize, code: v128): void {
  // Two columns in 16 bits, the even one in the low byte.
  const nibbles = v128.and(code, i8x16.splat(15));
  const pairs = v128.and(v128.or(nibbles, i16x8.shr_u(nibbles, 4)), i16x8.splat(255));
  v128.store64_lane(to, i8x16.narrow_i16x8_u(pairs, pairs), 0);
}

/** The two high bits of 16 codes, four in a byte. */
// @ts-ignore: decorator
@inline
function storeHigh(to: usize, code: v128): void {
  const bits = v128.and(i16x8.shr_u(code, 4), i8x16.splat(3));
  const pairs = v128.or(bits, i16x8.shr_u(bits, 6)), fours = v128.or(pairs, i32x4.shr_u(pairs, 12));
  const bytes = i8x16.shuffle(fours, fours, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  v128.store32_lane(to, bytes, 0);
}

/** 32 and the places of 16 levels among the magnitudes of an evenly spaced set, with their signs. */
// @ts-ignore: decorator
@inline
function placesOf16(levels: v128, table: usize, middle: v128, half: v128): v128 {
  const factor = v128.load16_splat(table, 64), sign = i8x16.shr_s(levels, 7);
  const m = i8x16.abs(levels);
  const a = i16x8.shl(i16x8.extend_low_i8x16_u(m), 5), b = i16x8.shl(i16x8.extend_high_i8x16_u(m), 5);
  const l = i16x8.shr_u(i16x8.q15mulr_sat_s(a, factor), 4);
  const h = i16x8.shr_u(i16x8.q15mulr_sat_s(b, factor), 4);
  const j = i8x16.narrow_i16x8_u(l, h);
  const place = i8x16.sub(j, i8x16.ne(entryOf(j, table + 32, half), m));
  return i8x16.add(i8x16.sub(v128.xor(place, sign), sign), middle);
}

/** The codes of 16 levels, u8, from the table of their set, whose entry 0 is at `table`. */
// @ts-ignore: decorator
@inline
function codesOf16(table: usize, l: v128): v128 {
  let c = i8x16.splat(0);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 0), c, 0);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 1), c, 1);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 2), c, 2);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 3), c, 3);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 4), c, 4);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 5), c, 5);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 6), c, 6);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 7), c, 7);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 8), c, 8);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 9), c, 9);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 10), c, 10);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 11), c, 11);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 12), c, 12);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 13), c, 13);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 14), c, 14);
  return v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 15), c, 15);
}
