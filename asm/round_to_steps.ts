/**
 * roundToSteps: of some sets of evenly spaced levels the one that suits each group of columns, and the levels of it.
 *
 *     u          = clamp(roundHalfEven((x / s) * 32), -8191, 8191)          NaN: 0
 *     level      = the one nearest to u / 32, of two as near the lower one, as `quantizeLevels` has it
 *     error(set) = sum over the group of (u - 32 * level)^2     modulo 2^32
 *
 * The candidates are first[max |u| >> 5] and the three sets before it, none below 0; the first of least error is
 * taken.
 *
 * Levels are as far below 0 as above, and 32 magnitudes at most: level j is near to j times the step of its set.
 * A set has 80 bytes: for each j twice the middle between levels j and j + 1, 255 where there is none above; the
 * 32 levels; and 2^14 over its step, in 16 bits. With j from |u| * 2^14 / step, rounded down, the nearest
 * level is j or j + 1, by the middle between them. That is right if steps are at least 1 and levels whole
 * numbers within 1/2 of theirs: finer sets are those of step 1 that end sooner.
 *
 * Layout: x f32 and codes i8 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], choices
 * u8 [rows, cols / setCols], steps u8 [sets, 80], first u8 [256]. Any alignment. setCols is a multiple of 16 and
 * divides groupCols. Infinity: the outermost level. Class: exact. The division is a true one.
 */

import { keepF32, keepI32 } from "./lib/constants";
import {
  entryOf,
  largestOf8,
  LEAST,
  leastOf4,
  MOST,
  ROUNDER,
  ROUNDER_BITS,
  STEPS,
  sumsOf4,
  unitsOf8,
} from "./lib/levels";

export function roundToSteps(
  codes: usize,
  choices: usize,
  x: usize,
  scales: usize,
  steps: usize,
  first: usize,
  _errors: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
  setCols: usize,
): void {
  const c32 = keepF32(STEPS), least = keepF32(LEAST), most = keepI32(MOST);
  const rounder = keepF32(ROUNDER), bits = keepI32(ROUNDER_BITS);
  const last = keepI32(0x1f1f1f1f), half = keepI32(0x10101010), up = keepI32(0x000f000f);
  const isPaired = setCols == 16 && groupCols % 32 == 0;
  const scalesPerRow = cols / groupCols;
  for (let row: usize = 0; row < rows; row++) {
    const own = scales + (((row / groupRows) * scalesPerRow) << 2);
    let left: usize = 0;
    // Two groups at a time: what one waits for, the other computes.
    for (; isPaired && left + 32 <= cols; left += 32) {
      const scale = v128.load32_splat(own + ((left / groupCols) << 2));
      const u = unitsOf8(x, scale, c32, least, rounder, bits, most);
      const v = unitsOf8(x + 32, scale, c32, least, rounder, bits, most);
      const p = unitsOf8(x + 64, scale, c32, least, rounder, bits, most);
      const q = unitsOf8(x + 96, scale, c32, least, rounder, bits, most);
      const a = i16x8.abs(u), b = i16x8.abs(v), d = i16x8.abs(p), e = i16x8.abs(q);
      const h = halvesOf16(u, v, a, b, up), g = halvesOf16(p, q, d, e, up);
      const r = <i32>load<u8>(first + <usize>(largestOf8(i16x8.max_s(a, b)) >> 5));
      const s = <i32>load<u8>(first + <usize>(largestOf8(i16x8.max_s(d, e)) >> 5));
      const r0 = squaresOf16(a, b, h, tableOf(steps, r, 0), last, half);
      const s0 = squaresOf16(d, e, g, tableOf(steps, s, 0), last, half);
      const r1 = squaresOf16(a, b, h, tableOf(steps, r, 1), last, half);
      const s1 = squaresOf16(d, e, g, tableOf(steps, s, 1), last, half);
      const r2 = squaresOf16(a, b, h, tableOf(steps, r, 2), last, half);
      const s2 = squaresOf16(d, e, g, tableOf(steps, s, 2), last, half);
      const r3 = squaresOf16(a, b, h, tableOf(steps, r, 3), last, half);
      const s3 = squaresOf16(d, e, g, tableOf(steps, s, 3), last, half);
      const setR = max<i32>(0, r - leastOf4(sumsOf4(r0, r1, r2, r3)));
      const setS = max<i32>(0, s - leastOf4(sumsOf4(s0, s1, s2, s3)));
      const levelsR = levelsOf16(a, b, h, tableOf(steps, setR, 0), last, half);
      const levelsS = levelsOf16(d, e, g, tableOf(steps, setS, 0), last, half);
      v128.store(codes, signed16(levelsR, u, v));
      v128.store(codes, signed16(levelsS, p, q), 16);
      store<u8>(choices, <u8>setR);
      store<u8>(choices, <u8>setS, 1);
      codes += 32;
      choices += 2;
      x += 128;
    }
    for (; left < cols; left += setCols) {
      const scale = v128.load32_splat(own + ((left / groupCols) << 2));
      let u = unitsOf8(x, scale, c32, least, rounder, bits, most);
      let v = unitsOf8(x + 32, scale, c32, least, rounder, bits, most);
      let a = i16x8.abs(u), b = i16x8.abs(v), largest = i16x8.max_s(a, b);
      // Units of longer groups are worked out anew for each of three passes.
      for (let k: usize = 16; k < setCols; k += 8) {
        const w = unitsOf8(x + (k << 2), scale, c32, least, rounder, bits, most);
        largest = i16x8.max_s(largest, i16x8.abs(w));
      }
      const start = <i32>load<u8>(first + <usize>(largestOf8(largest) >> 5));
      const t0 = tableOf(steps, start, 0), t1 = tableOf(steps, start, 1);
      const t2 = tableOf(steps, start, 2), t3 = tableOf(steps, start, 3);
      let h = halvesOf16(u, v, a, b, up);
      let s0 = squaresOf16(a, b, h, t0, last, half), s1 = squaresOf16(a, b, h, t1, last, half);
      let s2 = squaresOf16(a, b, h, t2, last, half), s3 = squaresOf16(a, b, h, t3, last, half);
      for (let k: usize = 16; k < setCols; k += 16) {
        const at = x + (k << 2);
        const p = unitsOf8(at, scale, c32, least, rounder, bits, most);
        const q = unitsOf8(at + 32, scale, c32, least, rounder, bits, most);
        const d = i16x8.abs(p), e = i16x8.abs(q), g = halvesOf16(p, q, d, e, up);
        s0 = i32x4.add(s0, squaresOf16(d, e, g, t0, last, half));
        s1 = i32x4.add(s1, squaresOf16(d, e, g, t1, last, half));
        s2 = i32x4.add(s2, squaresOf16(d, e, g, t2, last, half));
        s3 = i32x4.add(s3, squaresOf16(d, e, g, t3, last, half));
      }
      const set = max<i32>(0, start - leastOf4(sumsOf4(s0, s1, s2, s3)));
      const table = tableOf(steps, set, 0);
      v128.store(codes, signed16(levelsOf16(a, b, h, table, last, half), u, v));
      for (let k: usize = 16; k < setCols; k += 16) {
        const at = x + (k << 2);
        u = unitsOf8(at, scale, c32, least, rounder, bits, most);
        v = unitsOf8(at + 32, scale, c32, least, rounder, bits, most);
        a = i16x8.abs(u), b = i16x8.abs(v);
        h = halvesOf16(u, v, a, b, up);
        v128.store(codes + k, signed16(levelsOf16(a, b, h, table, last, half), u, v));
      }
      store<u8>(choices++, <u8>set);
      codes += setCols;
      x += setCols << 2;
    }
  }
}

/** Candidate `k` of a group that begins with `start`. */
// @ts-ignore: decorator
@inline
function tableOf(steps: usize, start: i32, k: i32): usize {
  return steps + <usize>max<i32>(0, start - k) * 80;
}

/**
 * Magnitudes in half steps, u8: rounded up, and of negative values one more at a whole one, so that those in the
 * middle are above it.
 */
// @ts-ignore: decorator
@inline
function halvesOf16(u: v128, v: v128, a: v128, b: v128, up: v128): v128 {
  const l = i16x8.sub(i16x8.add(a, up), i16x8.shr_s(u, 15));
  const h = i16x8.sub(i16x8.add(b, up), i16x8.shr_s(v, 15));
  return i8x16.narrow_i16x8_u(i16x8.shr_u(l, 4), i16x8.shr_u(h, 4));
}

/** The magnitudes of the levels nearest to 16 magnitudes. */
// @ts-ignore: decorator
@inline
function levelsOf16(a: v128, b: v128, h: v128, table: usize, last: v128, half: v128): v128 {
  const factor = v128.load16_splat(table, 64);
  const l = i16x8.shr_u(i16x8.q15mulr_sat_s(a, factor), 4);
  const r = i16x8.shr_u(i16x8.q15mulr_sat_s(b, factor), 4);
  let j = i8x16.min_u(i8x16.narrow_i16x8_u(l, r), last);
  j = i8x16.sub(j, i8x16.gt_u(h, entryOf(j, table, half)));
  return entryOf(j, table + 32, half);
}

/** The squared errors of 16 magnitudes in units, in four sums. */
// @ts-ignore: decorator
@inline
function squaresOf16(a: v128, b: v128, h: v128, table: usize, last: v128, half: v128): v128 {
  const levels = levelsOf16(a, b, h, table, last, half);
  const e = i16x8.sub(a, i16x8.shl(i16x8.extend_low_i8x16_u(levels), 5));
  const f = i16x8.sub(b, i16x8.shl(i16x8.extend_high_i8x16_u(levels), 5));
  return i32x4.add(i32x4.dot_i16x8_s(e, e), i32x4.dot_i16x8_s(f, f));
}

/** Levels with the signs of their values. */
// @ts-ignore: decorator
@inline
function signed16(levels: v128, u: v128, v: v128): v128 {
  const sign = i8x16.narrow_i16x8_s(i16x8.shr_s(u, 15), i16x8.shr_s(v, 15));
  return i8x16.sub(v128.xor(levels, sign), sign);
}
