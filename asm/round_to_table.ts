/**
 * roundToTable: of some sets of at most 16 levels the one that suits each group of columns, and the levels of it.
 *
 *     u     = clamp(roundHalfEven((x / s) * 32), -8191, 8191)          NaN: 0
 *     c     = clamp((u + 16) >> 5, -127, 127)
 *     error(set) = sum over the group of min((c - level)^2, 4095)
 *     level = levels[number of middles below c]
 *
 * The candidates are first[max |c|] and the three sets before it, none below 0; the first of least error is
 * taken. Its level nearest to u is the code: of two as near the lower one, as `quantizeLevels` has it.
 *
 * A set has 48 bytes: one that is not used, and the 15 middles between its levels, rounded down, as a binary tree in
 * which those below middle i are at 2 i and those above it at 2 i + 1; its 16 levels; and the middles in their
 * order again, but those that are not integers as -128.
 *
 * Levels lie some steps apart, so that whole steps choose nearly as well as units do, and errors are looked up:
 * entry c + 128 of set `start` of `errors` has those of all four candidates, 16 bits each, so that one addition
 * a value adds to four sums; 16 values do not overflow them. Levels are found in four steps down a tree whose
 * nodes are bytes of a vector: with (u + 15) >> 5 for c, the middles below u are those below c, and the one at
 * c if it is an integer and u is above it.
 *
 * Layout: x f32 and codes i8 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], choices
 * u8 [rows, cols / setCols], steps i8 [sets, 48], first u8 [128], errors
 * u16 [sets, 256, 4]. Any alignment. setCols is a multiple of 16, at
 * most 65536, and divides groupCols. Infinity: the outermost level. Class: exact. The division is a true one.
 */

import { keepF32, keepI32 } from "./lib/constants";
import {
  largestOf8,
  LEAST,
  leastOf4,
  middlesBelow,
  MOST,
  ROUNDER,
  ROUNDER_BITS,
  STEPS,
  unitsOf8,
} from "./lib/levels";

export function roundToTable(
  codes: usize,
  choices: usize,
  x: usize,
  scales: usize,
  steps: usize,
  first: usize,
  errors: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
  setCols: usize,
): void {
  const c32 = keepF32(STEPS), least = keepF32(LEAST), most = keepI32(MOST);
  const rounder = keepF32(ROUNDER), bits = keepI32(ROUNDER_BITS);
  const two = keepI32(0x02020202), leaf = keepI32(0x10101010), lowest = keepI32(0x81818181);
  const half = keepI32(0x00100010), below = keepI32(0x000f000f);
  const isPaired = setCols == 16 && groupCols % 32 == 0;
  const scalesPerRow = cols / groupCols;
  for (let r: usize = 0; r < rows; r++) {
    const own = scales + (((r / groupRows) * scalesPerRow) << 2);
    let left: usize = 0;
    // Two groups at a time: what one waits for, the other computes.
    for (; isPaired && left + 32 <= cols; left += 32) {
      const scale = v128.load32_splat(own + ((left / groupCols) << 2));
      const la = unitsOf8(x, scale, c32, least, rounder, bits, most);
      const ha = unitsOf8(x + 32, scale, c32, least, rounder, bits, most);
      const lb = unitsOf8(x + 64, scale, c32, least, rounder, bits, most);
      const hb = unitsOf8(x + 96, scale, c32, least, rounder, bits, most);
      const ca = wholeOf16(la, ha, half, lowest), cb = wholeOf16(lb, hb, half, lowest);
      const a = <i32>load<u8>(first + largestOf16(i8x16.abs(ca)));
      const b = <i32>load<u8>(first + largestOf16(i8x16.abs(cb)));
      v128.store(codes, ca);
      v128.store(codes, cb, 16);
      const setA = max<i32>(0, a - leastOf(errorsOf16(codes, errors, a)));
      const setB = max<i32>(0, b - leastOf(errorsOf16(codes + 16, errors, b)));
      const levelsA = levelsOf(la, ha, tableOf(steps, setA), below, lowest, two, leaf);
      const levelsB = levelsOf(lb, hb, tableOf(steps, setB), below, lowest, two, leaf);
      v128.store(codes, levelsA);
      v128.store(codes, levelsB, 16);
      store<u8>(choices, <u8>setA);
      store<u8>(choices, <u8>setB, 1);
      codes += 32;
      choices += 2;
      x += 128;
    }
    for (; left < cols; left += setCols) {
      const scale = v128.load32_splat(own + ((left / groupCols) << 2));
      let low = unitsOf8(x, scale, c32, least, rounder, bits, most);
      let high = unitsOf8(x + 32, scale, c32, least, rounder, bits, most);
      let c = wholeOf16(low, high, half, lowest), largest = i8x16.abs(c);
      // Whole steps of longer groups lie where their codes will be.
      for (let k: usize = 16; k < setCols; k += 16) {
        const at = x + (k << 2);
        const u = unitsOf8(at, scale, c32, least, rounder, bits, most);
        const v = unitsOf8(at + 32, scale, c32, least, rounder, bits, most);
        const w = wholeOf16(u, v, half, lowest);
        largest = i8x16.max_u(largest, i8x16.abs(w));
        v128.store(codes + k, w);
      }
      const start = <i32>load<u8>(first + largestOf16(largest));
      v128.store(codes, c);
      let sums = i32x4.splat(0);
      for (let k: usize = 0; k < setCols; k += 16) {
        const four = i64x2.splat(errorsOf16(codes + k, errors, start));
        sums = i32x4.add(sums, i32x4.extend_low_i16x8_u(four));
      }
      const set = max<i32>(0, start - leastOf4(sums));
      const table = tableOf(steps, set);
      v128.store(codes, levelsOf(low, high, table, below, lowest, two, leaf));
      for (let k: usize = 16; k < setCols; k += 16) {
        const at = x + (k << 2);
        low = unitsOf8(at, scale, c32, least, rounder, bits, most);
        high = unitsOf8(at + 32, scale, c32, least, rounder, bits, most);
        v128.store(codes + k, levelsOf(low, high, table, below, lowest, two, leaf));
      }
      store<u8>(choices++, <u8>set);
      codes += setCols;
      x += setCols << 2;
    }
  }
}

/** The table of a set. */
// @ts-ignore: decorator
@inline
function tableOf(steps: usize, set: i32): usize {
  return steps + <usize>set * 48;
}

/** The errors that four sets leave in 16 whole steps, in 16 bits each. */
// @ts-ignore: decorator
@inline
function errorsOf16(c: usize, errors: usize, start: i32): i64 {
  const own = errors + (<usize>start << 11) + 1024;
  return errorsOf4(c, own) + errorsOf4(c + 4, own) + (errorsOf4(c + 8, own) + errorsOf4(c + 12, own));
}

// @ts-ignore: decorator
@inline
function errorsOf4(c: usize, own: usize): i64 {
  return load<i64>(own + (<usize>load<i8>(c) << 3)) + load<i64>(own + (<usize>load<i8>(c, 1) << 3)) +
    (load<i64>(own + (<usize>load<i8>(c, 2) << 3)) + load<i64>(own + (<usize>load<i8>(c, 3) << 3)));
}

/** The place of the first of four numbers of 16 bits that no other is below. */
// @ts-ignore: decorator
@inline
function leastOf(errors: i64): i32 {
  return leastOf4(i32x4.extend_low_i16x8_u(i64x2.splat(errors)));
}

/** Units as whole steps, i8. */
// @ts-ignore: decorator
@inline
function wholeOf16(low: v128, high: v128, half: v128, lowest: v128): v128 {
  const l = i16x8.shr_s(i16x8.add(low, half), 5), h = i16x8.shr_s(i16x8.add(high, half), 5);
  return i8x16.max_s(i8x16.narrow_i16x8_s(l, h), lowest);
}

/** The levels nearest to 16 values in units. */
// @ts-ignore: decorator
@inline
function levelsOf(
  low: v128,
  high: v128,
  table: usize,
  below: v128,
  lowest: v128,
  two: v128,
  leaf: v128,
): v128 {
  const l = i16x8.add(low, below), h = i16x8.add(high, below);
  const floor = i8x16.narrow_i16x8_s(i16x8.shr_s(l, 5), i16x8.shr_s(h, 5));
  const c = i8x16.max_s(floor, lowest);
  // Bit 4 of a sum: whether the value is above c, not at it.
  const isAbove = i8x16.narrow_i16x8_s(
    i16x8.shr_s(i16x8.shl(l, 11), 15),
    i16x8.shr_s(i16x8.shl(h, 11), 15),
  );
  const at = middlesBelow(c, table, two, leaf);
  const own = i8x16.eq(i8x16.swizzle(v128.load(table, 32), at), c);
  return i8x16.swizzle(v128.load(table, 16), i8x16.sub(at, v128.and(own, isAbove)));
}

/** The largest of 16 bytes without a sign. */
// @ts-ignore: decorator
@inline
function largestOf16(v: v128): usize {
  return <usize>largestOf8(i16x8.max_s(i16x8.extend_low_i8x16_u(v), i16x8.extend_high_i8x16_u(v)));
}
