/**
 * quantize: code = clamp(roundHalfEven(x / scale), -127, 127), the scale that of the element's group.
 *
 * Layout: x f32 and codes i8 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols].
 * Any alignment. Tail: the last 16 codes of a segment overlap those before; segments under 16 go one
 * by one.
 * NaN (also 0 / 0 and inf / inf): code 0. Infinity: +-127.
 * Class: exact. The division is a true one (x * (1 / scale) gives other codes now and then).
 */

import { keepF32, keepI32 } from "./lib/constants";

/** 1.5 * 2^23: floats around it are integers, so adding it rounds to an integer, ties to even. */
const ROUNDER: f32 = 12582912;
/** The bits of ROUNDER; those of ROUNDER + q are larger by q. */
const ROUNDER_BITS: i32 = 0x4b400000;

export function quantize(
  codes: usize,
  x: usize,
  scales: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
): void {
  const scalesPerRow = cols / groupCols;
  for (let r: usize = 0; r < rows; r++) {
    let scale = scales + (((r / groupRows) * scalesPerRow) << 2);
    for (let left: usize = 0; left < cols; left += groupCols) {
      const at = r * cols + left;
      quantizeSegment(codes + at, x + (at << 2), load<f32>(scale), groupCols);
      scale += 4;
    }
  }
}

function quantizeSegment(codes: usize, x: usize, scale: f32, n: usize): void {
  if (n < 16) {
    for (let i: usize = 0; i < n; i++) store<i8>(codes + i, codeOf(load<f32>(x + (i << 2)), scale));
    return;
  }
  const divisor = f32x4.splat(scale);
  const lowest = keepF32(-127), rounder = keepF32(ROUNDER), rounderBits = keepI32(ROUNDER_BITS);
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    codes16(codes + i, x + (i << 2), divisor, lowest, rounder, rounderBits);
  }
  if (i < n) {
    const p = x + ((n - 16) << 2);
    codes16(codes + n - 16, p, divisor, lowest, rounder, rounderBits);
  }
}

// @ts-ignore: decorator
@inline
function codeOf(x: f32, scale: f32): i8 {
  const t = x / scale;
  if (t != t) return 0;
  return <i8>nearest(min<f32>(127, max<f32>(-127, t)));
}

// @ts-ignore: decorator
@inline
function codes16(
  codes: usize,
  x: usize,
  divisor: v128,
  lowest: v128,
  rounder: v128,
  rounderBits: v128,
): void {
  const a = rounded(f32x4.div(v128.load(x), divisor), lowest, rounder, rounderBits);
  const b = rounded(f32x4.div(v128.load(x, 16), divisor), lowest, rounder, rounderBits);
  const c = rounded(f32x4.div(v128.load(x, 32), divisor), lowest, rounder, rounderBits);
  const d = rounded(f32x4.div(v128.load(x, 48), divisor), lowest, rounder, rounderBits);
  const low = i16x8.narrow_i32x4_s(a, b), high = i16x8.narrow_i32x4_s(c, d);
  v128.store(codes, i8x16.narrow_i16x8_s(low, high));
}

/**
 * Rounded quotients as i32, right up to 2^22; what is larger is still large and positive, and saturates
 * to 127 when narrowed. The lower end is clamped here: at -127, not -128, and before the difference of
 * bits could wrap around.
 */
// @ts-ignore: decorator
@inline
function rounded(t: v128, lowest: v128, rounder: v128, rounderBits: v128): v128 {
  const numbers = v128.and(t, f32x4.eq(t, t)); // NaN -> +0
  // pmax(a, b) is a < b ? b : a: one instruction, where max has to look after NaN and -0.
  return i32x4.sub(f32x4.add(f32x4.pmax(lowest, numbers), rounder), rounderBits);
}
