/**
 * searchScale: shrinks each scale to the candidate with the least squared error of its group. Clipping
 * the largest value of a group a little makes the steps of all others finer.
 *
 * Cost of a scale s = s0 * f_k (f32), s0 the scale on entry, in units of s0^2:
 *
 *     f_k = 1 / (1 + k * delta), k = 0 .. 8;   t = |x| * (1 + k * delta) / s0
 *     cost(k) = f_k^2 * S_k,   S_k = sum (t - min(roundHalfEven(t), 127))^2
 *
 * Candidates. If a group of n values has one of magnitude absmax and the error of the others shrinks
 * like f^2, then cost = f^2 * E + (1 - f)^2 * 127^2 with E = S_0, about n / 12, which is below E from
 * f = 1 down to (1 - r) / (1 + r) and least at 1 / (1 + r), where r = E / 127^2. Real groups have several
 * large values, so their best f lies in the upper part of that range: going down to 1 - 1.25 r loses
 * nothing. Groups under about 2000 values have hardly any such gain, but a scale about 0.2% away meets
 * other roundings, and the best of a few independent draws is better by luck. So the candidates divide
 * the range from 1 to 1 - width evenly (in 1 / f), where
 *
 *     width = min(max(1.25 n / 12 / 127^2, min(max(0.011, 0.022 n / 1536), 0.022)), 0.5)
 *     delta = width / (1 - width) / 8
 *
 * Sums in integers. t is a number of steps in units of 2^-16; what is left of it modulo 2^16, as a signed
 * 16-bit number, is its rounding error, and the next candidate adds one 16-bit product to it:
 *
 *     u_0 = round(t_0 * 2^16),   q = round(t_0 * delta * 2^16),   u_k = u_0 + k * q
 *     e_k = (u_k + 8) mod 2^16 as i16,   S_k = sum (e_k >> 4)^2, in units of 2^-24
 *
 * Values that may reach 127.5 steps at the last candidate (a few in a row) are taken one by one, with
 * e_k = max(that, u_k + 8 - 127 * 2^16). Sums of integers have no order: every backend gets the same.
 * The bound that a candidate must beat. An e_k is wrong by at most d = 2^-12.3 steps: 2^-13 by the shift, k * 2^-17
 * by q, 2^-17 by u_0, 2^-16 by the reciprocal of s0, 2^-17 by the rounding of s0 * f_k. So S_k is wrong by
 * at most 2 d sum |e| + n d^2 <= S_k / 512 + n * 512 * d^2 (Cauchy-Schwarz), and a candidate is taken only
 * if its cost is below (1 - 1/256) S_0 - 688 n 2^-24: the result is never worse than s0 with the codes of
 * `quantize`, which divides truly. Sums are compared as f32 after a shift that leaves at most 24 bits.
 *
 * Eight evenly spaced candidates lose up to 0.3 % of the squared error (0.01 dB) against nine that close
 * in on the best (a test compares them), and take 0.4 of the time.
 *
 * Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], in place. Any
 * alignment. Tail: missing values of a vector are zeros, which add exactly 0.
 * The scale stays as it is if it is not between 2^-110 and infinity, or if a value is NaN, infinite or more
 * than 127.5 steps. Class: exact.
 *
 * For speed: the sums of the candidates are locals, unrolled by hand, as AssemblyScript has neither local
 * arrays nor functions with several results; adding 2^23 rounds a positive f32 to the integer in its low
 * bits; two vectors of such integers become one of i16 by one shift and one blend, in an order of their
 * own, which sums do not mind.
 */

import { keepF32 } from "./lib/constants";
import { loadPartF32 } from "./lib/lanes";

/** Columns whose sums fit 32 bits: 2048 / 8 vectors of pairs below 2^23. */
const RUN: usize = 2048;
/** The bits of 2^23 as f32: what an integer below 2^23 was added to. */
const MAGIC: u32 = 0x4b000000;
/** 127.5 steps and 127 steps, in units of 2^-16. */
const BEYOND: u32 = MAGIC + 127 * 65536 + 32768;
const QMAX: i32 = 127 * 65536;
/** 2^-110: the reciprocal of what is larger does not overflow. */
const SCALE_MIN: f32 = 7.703719777548943e-34;

export function searchScale(
  scales: usize,
  x: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
): void {
  const n = <f32>(groupRows * groupCols);
  const least = min<f32>(max<f32>(n * <f32>(0.022 / 1536), <f32>0.011), <f32>0.022);
  const width = min<f32>(max<f32>(n * <f32>(1.25 / 12 / 16129), least), <f32>0.5);
  const delta = width / (<f32>1 - width) * <f32>0.125;
  for (let top: usize = 0; top < rows; top += groupRows) {
    for (let left: usize = 0; left < cols; left += groupCols) {
      const group = x + ((top * cols + left) << 2);
      const s0 = load<f32>(scales);
      store<f32>(scales, searchGroup(group, cols << 2, groupRows, groupCols, s0, width, delta));
      scales += 4;
    }
  }
}

/** The best scale of one group of `rows` x `cols` values whose rows are `stride` bytes apart. */
function searchGroup(
  x: usize,
  stride: usize,
  rows: usize,
  cols: usize,
  s0: f32,
  width: f32,
  delta: f32,
): f32 {
  if (!(s0 > SCALE_MIN && s0 < Infinity)) return s0;
  const inverse: f32 = 65536 / s0;
  const growth = inverse * delta;
  const inverses = f32x4.splat(inverse), growths = f32x4.splat(growth);
  const magic = keepF32(8388608);
  // A little less than 127.5 steps at the last candidate: room for the roundings of u_0 and q.
  const top = reinterpret<u32>(<f32>8388608 + <f32>(127.49 * 65536) * (<f32>1 - width));
  const tops = i32x4.splat(top);
  const zero = i64x2.splat(0), half = i16x8.splat(8);
  let w0 = zero, w1 = zero, w2 = zero, w3 = zero, w4 = zero;
  let w5 = zero, w6 = zero, w7 = zero, w8 = zero;

  for (let r: usize = 0; r < rows; r++) {
    for (let left: usize = 0; left < cols; left += RUN) {
      const run = x + (left << 2), length = min(RUN, cols - left);
      let t0 = zero, t1 = zero, t2 = zero, t3 = zero, t4 = zero;
      let t5 = zero, t6 = zero, t7 = zero, t8 = zero;
      for (let j: usize = 0; j < length; j += 32) {
        const p = run + (j << 2), rest = length - j;
        let m0 = zero, m1 = zero, m2 = zero, m3 = zero, m4 = zero, m5 = zero, m6 = zero, m7 = zero;
        if (rest >= 32) {
          m0 = f32x4.abs(v128.load(p));
          m1 = f32x4.abs(v128.load(p, 16));
          m2 = f32x4.abs(v128.load(p, 32));
          m3 = f32x4.abs(v128.load(p, 48));
          m4 = f32x4.abs(v128.load(p, 64));
          m5 = f32x4.abs(v128.load(p, 80));
          m6 = f32x4.abs(v128.load(p, 96));
          m7 = f32x4.abs(v128.load(p, 112));
        } else {
          m0 = magnitudes(p, rest);
          if (rest > 4) m1 = magnitudes(p + 16, rest - 4);
          if (rest > 8) m2 = magnitudes(p + 32, rest - 8);
          if (rest > 12) m3 = magnitudes(p + 48, rest - 12);
          if (rest > 16) m4 = magnitudes(p + 64, rest - 16);
          if (rest > 20) m5 = magnitudes(p + 80, rest - 20);
          if (rest > 24) m6 = magnitudes(p + 96, rest - 24);
          if (rest > 28) m7 = magnitudes(p + 112, rest - 28);
        }
        let u0 = rounded(m0, inverses, magic), u1 = rounded(m1, inverses, magic);
        let u2 = rounded(m2, inverses, magic), u3 = rounded(m3, inverses, magic);
        let u4 = rounded(m4, inverses, magic), u5 = rounded(m5, inverses, magic);
        let u6 = rounded(m6, inverses, magic), u7 = rounded(m7, inverses, magic);
        const low = i32x4.max_u(i32x4.max_u(u0, u1), i32x4.max_u(u2, u3));
        const high = i32x4.max_u(i32x4.max_u(u4, u5), i32x4.max_u(u6, u7));
        if (v128.any_true(i32x4.gt_u(i32x4.max_u(low, high), tops))) {
          const count = min<usize>(rest, 32);
          for (let k: usize = 0; k < count; k++) {
            const magnitude = abs(load<f32>(p + (k << 2)));
            const bits = reinterpret<u32>(magnitude * inverse + <f32>8388608);
            if (bits <= top) continue;
            if (bits > BEYOND) return s0;
            const q = <i32>(reinterpret<u32>(magnitude * growth + <f32>8388608) - MAGIC);
            let u = <i32>(bits - MAGIC) + 8;
            w0 = i64x2.add(w0, squareOf(u));
            w1 = i64x2.add(w1, squareOf(u += q));
            w2 = i64x2.add(w2, squareOf(u += q));
            w3 = i64x2.add(w3, squareOf(u += q));
            w4 = i64x2.add(w4, squareOf(u += q));
            w5 = i64x2.add(w5, squareOf(u += q));
            w6 = i64x2.add(w6, squareOf(u += q));
            w7 = i64x2.add(w7, squareOf(u += q));
            w8 = i64x2.add(w8, squareOf(u += q));
          }
          // They count as zeros below.
          m0 = v128.and(m0, i32x4.le_u(u0, tops));
          m1 = v128.and(m1, i32x4.le_u(u1, tops));
          m2 = v128.and(m2, i32x4.le_u(u2, tops));
          m3 = v128.and(m3, i32x4.le_u(u3, tops));
          m4 = v128.and(m4, i32x4.le_u(u4, tops));
          m5 = v128.and(m5, i32x4.le_u(u5, tops));
          m6 = v128.and(m6, i32x4.le_u(u6, tops));
          m7 = v128.and(m7, i32x4.le_u(u7, tops));
          u0 = rounded(m0, inverses, magic);
          u1 = rounded(m1, inverses, magic);
          u2 = rounded(m2, inverses, magic);
          u3 = rounded(m3, inverses, magic);
          u4 = rounded(m4, inverses, magic);
          u5 = rounded(m5, inverses, magic);
          u6 = rounded(m6, inverses, magic);
          u7 = rounded(m7, inverses, magic);
        }
        let a = i16x8.add(pack(u0, u1), half), b = i16x8.add(pack(u2, u3), half);
        let c = i16x8.add(pack(u4, u5), half), d = i16x8.add(pack(u6, u7), half);
        const qa = pack(rounded(m0, growths, magic), rounded(m1, growths, magic));
        const qb = pack(rounded(m2, growths, magic), rounded(m3, growths, magic));
        const qc = pack(rounded(m4, growths, magic), rounded(m5, growths, magic));
        const qd = pack(rounded(m6, growths, magic), rounded(m7, growths, magic));

        t0 = i32x4.add(t0, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t1 = i32x4.add(t1, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t2 = i32x4.add(t2, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t3 = i32x4.add(t3, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t4 = i32x4.add(t4, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t5 = i32x4.add(t5, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t6 = i32x4.add(t6, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t7 = i32x4.add(t7, squares(a, b, c, d));
        a = i16x8.add(a, qa), b = i16x8.add(b, qb), c = i16x8.add(c, qc), d = i16x8.add(d, qd);
        t8 = i32x4.add(t8, squares(a, b, c, d));
      }
      w0 = widen(w0, t0);
      w1 = widen(w1, t1);
      w2 = widen(w2, t2);
      w3 = widen(w3, t3);
      w4 = widen(w4, t4);
      w5 = widen(w5, t5);
      w6 = widen(w6, t6);
      w7 = widen(w7, t7);
      w8 = widen(w8, t8);
    }
    x += stride;
  }

  const start = sumLanes(w0);
  if (start == 0) return s0;
  // 22 bits for S_0, so that four times as much, all that can win, has 24.
  const shift = <u64>max<i64>(0, 42 - clz<u64>(start));
  const allowance = <f32>(rows * cols) * <f32>688 / <f32>(<u64>1 << shift);
  let limit = <f32>(start >> shift) * <f32>(255.0 / 256.0) - allowance, best: f32 = 0, cost: f32 = 0;
  if ((cost = costOf(w1, shift, 1, delta)) < limit) limit = cost, best = 1;
  if ((cost = costOf(w2, shift, 2, delta)) < limit) limit = cost, best = 2;
  if ((cost = costOf(w3, shift, 3, delta)) < limit) limit = cost, best = 3;
  if ((cost = costOf(w4, shift, 4, delta)) < limit) limit = cost, best = 4;
  if ((cost = costOf(w5, shift, 5, delta)) < limit) limit = cost, best = 5;
  if ((cost = costOf(w6, shift, 6, delta)) < limit) limit = cost, best = 6;
  if ((cost = costOf(w7, shift, 7, delta)) < limit) limit = cost, best = 7;
  if ((cost = costOf(w8, shift, 8, delta)) < limit) limit = cost, best = 8;
  return s0 * factorOf(best, delta);
}

/** The magnitudes of up to four values at `p`; those missing are zero. */
// @ts-ignore: decorator
@inline
function magnitudes(p: usize, count: usize): v128 {
  return f32x4.abs(count >= 4 ? v128.load(p) : loadPartF32(p, count));
}

/** 2^23 + round(values * factor), whose low bits are that integer if it is below 2^23. */
// @ts-ignore: decorator
@inline
function rounded(values: v128, factor: v128, magic: v128): v128 {
  return f32x4.add(f32x4.mul(values, factor), magic);
}

/** The low halves of eight 32-bit integers, in the order 0, 4, 1, 5, 2, 6, 3, 7. */
// @ts-ignore: decorator
@inline
function pack(a: v128, b: v128): v128 {
  return i16x8.shuffle(a, i32x4.shl(b, 16), 0, 9, 2, 11, 4, 13, 6, 15);
}

/** Sums of the squares of 32 errors, each shifted to 12 bits. */
// @ts-ignore: decorator
@inline
function squares(a: v128, b: v128, c: v128, d: v128): v128 {
  a = i16x8.shr_s(a, 4);
  b = i16x8.shr_s(b, 4);
  c = i16x8.shr_s(c, 4);
  d = i16x8.shr_s(d, 4);
  return i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(a, a), i32x4.dot_i16x8_s(b, b)),
    i32x4.add(i32x4.dot_i16x8_s(c, c), i32x4.dot_i16x8_s(d, d)),
  );
}

/** The square of the error of one value that may clip, in lane 0. */
function squareOf(u: i32): v128 {
  const e = max((u << 16) >> 16, u - QMAX) >> 4;
  return i64x2(<i64>e * <i64>e, 0);
}

/** total + the four unsigned lanes of `sums`, in two lanes of 64 bits. */
// @ts-ignore: decorator
@inline
function widen(total: v128, sums: v128): v128 {
  const low = i64x2.extend_low_i32x4_u(sums), high = i64x2.extend_high_i32x4_u(sums);
  return i64x2.add(total, i64x2.add(low, high));
}

// @ts-ignore: decorator
@inline
function sumLanes(total: v128): u64 {
  return <u64>i64x2.extract_lane(total, 0) + <u64>i64x2.extract_lane(total, 1);
}

function factorOf(k: f32, delta: f32): f32 {
  return <f32>1 / (<f32>1 + k * delta);
}

/** cost(k) in units of 2^(shift - 24); infinite if it has more than 24 bits and cannot win. */
function costOf(total: v128, shift: u64, k: f32, delta: f32): f32 {
  const sum = sumLanes(total) >> shift;
  if (sum >= 1 << 24) return Infinity;
  const factor = factorOf(k, delta);
  return factor * factor * <f32>sum;
}
