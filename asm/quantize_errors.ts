/**
 * Codes and what they leave, in one pass over the values:
 *
 *   quantizeErrors   codes as `quantize` gives them; x becomes the errors
 *   codeErrors       the same for codes that are there already
 *   quantizeBf16Rows scales and codes of BF16 rows, straight from the stored values; errors go into sums only
 *
 * An error is e = x - f32(code) * scale, both in f32. To stats, six f64 (STATS in backend.ts), is added what
 * `errorStats` adds for x and the dequantized values.
 *
 * Layout: as `quantize`; BF16 rows have one scale each, max(absmax / 127, 1e-30) as `absmax` and `scaleFromAbsmax`
 * give it. Any alignment. Tail: one by one. NaN and infinity: codes as `quantize`, sums as `errorStats`.
 * Class: codes, scales, errors, their maximum and count exact. Sums close, 1e-6 of the sum of squares: those of
 * e^2 and x^2 run in f32 lanes over 1024 values, then in f64, as in `errorStats`; that of the dequantized values
 * is scale^2 times the sum of the squares of the codes, an integer, and x * xhat = (x^2 + xhat^2 - e^2) / 2.
 *
 * Division. t = x * (1 / scale) is off the true quotient by 127.5 * 2^-23 at most. If all errors of 16 values are
 * below (0.5 - 2^-14) scale, and no code is beyond 127, no quotient is near enough to the middle between two
 * codes for that to matter: the codes are those of the division. Otherwise, for some in a thousand of values,
 * the 16 are divided.
 */

import { keepF32, keepI32 } from "./lib/constants";
import { maxLanesF32, sumLanesF64 } from "./lib/lanes";

const RUN: usize = 1024;
/** As in `quantize`. */
const ROUNDER: f32 = 12582912;
const ROUNDER_BITS: i32 = 0x4b400000;
/** 0.5 - 2^-14. */
const NEAR: f32 = 0.49993896484375;
/** Their reciprocals, and products with NEAR, are normal numbers. */
const SCALE_LEAST: f32 = 1e-36, SCALE_MOST: f32 = 1e36;
const SCALE_MIN: f32 = 1e-30;
/** As in `errorStats`. */
const LARGEST: f64 = 1e38, SMALLEST: f64 = 1e-36;

export function quantizeErrors(
  codes: usize,
  x: usize,
  stats: usize,
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
      const at = r * cols + left, s = load<f32>(scale);
      for (let i: usize = 0; i < groupCols; i += RUN) {
        roundRun(codes + at + i, x + ((at + i) << 2), stats, s, min(RUN, groupCols - i));
      }
      scale += 4;
    }
  }
}

export function codeErrors(
  x: usize,
  stats: usize,
  codes: usize,
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
      const at = r * cols + left, s = load<f32>(scale);
      for (let i: usize = 0; i < groupCols; i += RUN) {
        measureRun(codes + at + i, x + ((at + i) << 2), stats, s, min(RUN, groupCols - i));
      }
      scale += 4;
    }
  }
}

export function quantizeBf16Rows(
  codes: usize,
  scales: usize,
  stats: usize,
  source: usize,
  rows: usize,
  cols: usize,
): void {
  for (let r: usize = 0; r < rows; r++) {
    const absmax = bf16Absmax(source, cols) / 127;
    const scale = SCALE_MIN < absmax ? absmax : SCALE_MIN;
    store<f32>(scales + (r << 2), scale);
    for (let i: usize = 0; i < cols; i += RUN) {
      roundBf16Run(codes + i, source + (i << 1), stats, scale, min(RUN, cols - i));
    }
    codes += cols;
    source += cols << 1;
  }
}

/** The largest magnitude; those of BF16 are ordered as the integers that their bits are. NaN is ignored. */
function bf16Absmax(source: usize, n: usize): f32 {
  const magnitude = keepI32(0x7fff7fff);
  let m0 = i64x2.splat(0), m1 = m0;
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    const p = source + (i << 1);
    m0 = i16x8.max_s(m0, v128.and(v128.load(p), magnitude));
    m1 = i16x8.max_s(m1, v128.and(v128.load(p, 16), magnitude));
  }
  m0 = i16x8.max_s(m0, m1);
  m0 = i16x8.max_s(m0, v128.shuffle<u64>(m0, m0, 1, 0));
  m0 = i16x8.max_s(m0, v128.shuffle<u32>(m0, m0, 1, 0, 3, 2));
  let most = max<u32>(i16x8.extract_lane_u(m0, 0), i16x8.extract_lane_u(m0, 1));
  for (; i < n; i++) most = max<u32>(most, <u32>load<u16>(source + (i << 1)) & 0x7fff);
  if (most <= 0x7f80) return reinterpret<f32>(most << 16);
  let largest: f32 = 0;
  for (i = 0; i < n; i++) {
    const value = abs(bf16At(source + (i << 1)));
    if (value > largest) largest = value;
  }
  return largest;
}

function roundRun(codes: usize, x: usize, stats: usize, scale: f32, n: usize): void {
  run(codes, x, stats, scale, n, true, false);
}

function measureRun(codes: usize, x: usize, stats: usize, scale: f32, n: usize): void {
  run(codes, x, stats, scale, n, false, false);
}

function roundBf16Run(codes: usize, source: usize, stats: usize, scale: f32, n: usize): void {
  run(codes, source, stats, scale, n, true, true);
}

/**
 * At most RUN values under one scale. rounds: codes are made, not read. isBf16: x holds BF16 values and stays as
 * it is; else f32, which become the errors.
 */
// @ts-ignore: decorator
@inline
function run(
  codes: usize,
  x: usize,
  stats: usize,
  scale: f32,
  n: usize,
  rounds: bool,
  isBf16: bool,
): void {
  const isUsable = scale >= SCALE_LEAST && scale <= SCALE_MOST;
  const inverse = f32x4.splat(<f32>1 / scale), factor = f32x4.splat(scale);
  const near = f32x4.splat(isUsable ? NEAR * scale : <f32>-1);
  const rounder = keepF32(ROUNDER), rounderBits = keepI32(ROUNDER_BITS), qmax = keepI32(0x7f007f);
  let error = i64x2.splat(0), signal = error, squares = error, largest = error;
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    let x0: v128, x1: v128, x2: v128, x3: v128;
    if (isBf16) {
      const p = x + (i << 1), zero = i64x2.splat(0), low = v128.load(p), high = v128.load(p, 16);
      x0 = v128.shuffle<u16>(zero, low, 0, 8, 1, 9, 2, 10, 3, 11);
      x1 = v128.shuffle<u16>(zero, low, 4, 12, 5, 13, 6, 14, 7, 15);
      x2 = v128.shuffle<u16>(zero, high, 0, 8, 1, 9, 2, 10, 3, 11);
      x3 = v128.shuffle<u16>(zero, high, 4, 12, 5, 13, 6, 14, 7, 15);
    } else {
      const p = x + (i << 2);
      x0 = v128.load(p);
      x1 = v128.load(p, 16);
      x2 = v128.load(p, 32);
      x3 = v128.load(p, 48);
    }
    let q01: v128, q23: v128, n0: v128, n1: v128, n2: v128, n3: v128;
    if (rounds) {
      const r0 = f32x4.add(f32x4.mul(x0, inverse), rounder);
      const r1 = f32x4.add(f32x4.mul(x1, inverse), rounder);
      const r2 = f32x4.add(f32x4.mul(x2, inverse), rounder);
      const r3 = f32x4.add(f32x4.mul(x3, inverse), rounder);
      n0 = f32x4.sub(r0, rounder);
      n1 = f32x4.sub(r1, rounder);
      n2 = f32x4.sub(r2, rounder);
      n3 = f32x4.sub(r3, rounder);
      // Anything but a small integer, NaN included, saturates here.
      q01 = i16x8.narrow_i32x4_s(i32x4.sub(r0, rounderBits), i32x4.sub(r1, rounderBits));
      q23 = i16x8.narrow_i32x4_s(i32x4.sub(r2, rounderBits), i32x4.sub(r3, rounderBits));
    } else {
      const v = v128.load(codes + i);
      q01 = i16x8.extend_low_i8x16_s(v);
      q23 = i16x8.extend_high_i8x16_s(v);
      n0 = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(q01));
      n1 = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(q01));
      n2 = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(q23));
      n3 = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(q23));
    }
    let e0 = f32x4.sub(x0, f32x4.mul(n0, factor)), e1 = f32x4.sub(x1, f32x4.mul(n1, factor));
    let e2 = f32x4.sub(x2, f32x4.mul(n2, factor)), e3 = f32x4.sub(x3, f32x4.mul(n3, factor));
    let most = largestOf(e0, e1, e2, e3);
    if (rounds) {
      // Unsigned: the magnitude of -32768 is 32768.
      const beyond = i16x8.gt_u(i16x8.max_u(i16x8.abs(q01), i16x8.abs(q23)), qmax);
      if (v128.any_true(v128.or(f32x4.gt(most, near), beyond))) {
        n0 = divided(x0, factor);
        n1 = divided(x1, factor);
        n2 = divided(x2, factor);
        n3 = divided(x3, factor);
        q01 = i16x8.narrow_i32x4_s(integersOf(n0), integersOf(n1));
        q23 = i16x8.narrow_i32x4_s(integersOf(n2), integersOf(n3));
        e0 = f32x4.sub(x0, f32x4.mul(n0, factor)), e1 = f32x4.sub(x1, f32x4.mul(n1, factor));
        e2 = f32x4.sub(x2, f32x4.mul(n2, factor)), e3 = f32x4.sub(x3, f32x4.mul(n3, factor));
        most = largestOf(e0, e1, e2, e3);
      }
      v128.store(codes + i, i8x16.narrow_i16x8_s(q01, q23));
    }
    if (!isBf16) {
      const p = x + (i << 2);
      v128.store(p, e0);
      v128.store(p, e1, 16);
      v128.store(p, e2, 32);
      v128.store(p, e3, 48);
    }
    largest = f32x4.pmax(largest, most);
    squares = i32x4.add(squares, i32x4.dot_i16x8_s(q01, q01));
    squares = i32x4.add(squares, i32x4.dot_i16x8_s(q23, q23));
    error = f32x4.add(error, sumOfSquares(e0, e1, e2, e3));
    signal = f32x4.add(signal, sumOfSquares(x0, x1, x2, x3));
  }
  let errorSum = sumLanesF64(error), signalSum = sumLanesF64(signal);
  let most = maxLanesF32(largest);
  let codeSum = i32x4.extract_lane(squares, 0) + i32x4.extract_lane(squares, 1) +
    i32x4.extract_lane(squares, 2) + i32x4.extract_lane(squares, 3);
  for (; i < n; i++) {
    const value = isBf16 ? bf16At(x + (i << 1)) : load<f32>(x + (i << 2));
    if (rounds) store<i8>(codes + i, codeOf(value, scale));
    const code = <i32>load<i8>(codes + i);
    const e = value - <f32>code * scale;
    if (!isBf16) store<f32>(x + (i << 2), e);
    errorSum += <f64>e * <f64>e;
    signalSum += <f64>value * <f64>value;
    codeSum += code * code;
    if (abs(e) > most) most = abs(e);
  }
  const s = <f64>scale, outputSum = s * s * <f64>codeSum;
  // Also true of NaN, which f64 gives, too.
  const isLarge = !(errorSum < LARGEST && signalSum < LARGEST && outputSum < LARGEST);
  if (isLarge || signalSum < SMALLEST || (errorSum < SMALLEST && most > 0)) {
    errorSum = 0, signalSum = 0;
    for (i = 0; i < n; i++) {
      const xhat = <f64>(<f32>load<i8>(codes + i) * scale);
      let value: f64, e: f64;
      if (isBf16) {
        value = <f64>bf16At(x + (i << 1));
        e = <f64><f32>(value - xhat);
      } else {
        e = <f64>load<f32>(x + (i << 2));
        value = e + xhat;
      }
      errorSum += e * e;
      signalSum += value * value;
    }
  }
  store<f64>(stats, load<f64>(stats) + errorSum);
  store<f64>(stats, load<f64>(stats, 8) + signalSum, 8);
  store<f64>(stats, load<f64>(stats, 16) + outputSum, 16);
  store<f64>(stats, load<f64>(stats, 24) + (signalSum + outputSum - errorSum) * 0.5, 24);
  store<f64>(stats, max(load<f64>(stats, 32), <f64>most), 32);
  store<f64>(stats, load<f64>(stats, 40) + <f64>n, 40);
}

// @ts-ignore: decorator
@inline
function largestOf(a: v128, b: v128, c: v128, d: v128): v128 {
  return f32x4.pmax(
    f32x4.pmax(f32x4.abs(a), f32x4.abs(b)),
    f32x4.pmax(f32x4.abs(c), f32x4.abs(d)),
  );
}

// @ts-ignore: decorator
@inline
function sumOfSquares(a: v128, b: v128, c: v128, d: v128): v128 {
  return f32x4.add(
    f32x4.add(f32x4.mul(a, a), f32x4.mul(b, b)),
    f32x4.add(f32x4.mul(c, c), f32x4.mul(d, d)),
  );
}

/** The codes of four values as f32, by a true division. */
// @ts-ignore: decorator
@inline
function divided(x: v128, scale: v128): v128 {
  const t = f32x4.div(x, scale);
  const numbers = v128.and(t, f32x4.eq(t, t)); // NaN -> +0
  const inside = f32x4.pmin(f32x4.pmax(numbers, f32x4.splat(-127)), f32x4.splat(127));
  return f32x4.add(f32x4.nearest(inside), f32x4.splat(0)); // -0 -> +0
}

// @ts-ignore: decorator
@inline
function integersOf(n: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(n);
}

// @ts-ignore: decorator
@inline
function bf16At(p: usize): f32 {
  return reinterpret<f32>(<u32>load<u16>(p) << 16);
}

// @ts-ignore: decorator
@inline
function codeOf(x: f32, scale: f32): i8 {
  const t = x / scale;
  if (t != t) return 0;
  return <i8>nearest(min<f32>(127, max<f32>(-127, t)));
}
