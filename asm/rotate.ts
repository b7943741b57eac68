/**
 * rotate: every run of `groupSize` values times the normalised regular Hadamard matrix of that size.
 *
 * H4 = [[1,1,1,-1],[1,1,-1,1],[1,-1,1,1],[-1,1,1,1]] and H_4m = kron(H_m, H4), over sqrt(groupSize).
 * Since the matrix is a Kronecker power, it is applied as log4(groupSize) radix-4 stages, of strides
 * groupSize/4, ..., 16, 4, 1. A stage takes four values a, b, c, d one stride apart to
 *
 *     h = ((a + d) + (b + c)) * 0.5;   h - d, h - c, h - b, h - a
 *
 * which is H4 / 2: (a + b + c - d) / 2 = h - d, and so on. This order of additions is part of the
 * definition: the same everywhere, it makes the result the same everywhere.
 *
 * rotatedAbsmax: the larger of `least` and max |x| after `rotate`; x is left in between. The last two stages make
 * of every 16 values sums of all of them with either sign, over 4, so no result is larger than a quarter of the sum
 * of their magnitudes: sums are made only if that is above the maximum so far, which is seldom. Class: exact.
 * NaN is ignored.
 *
 * rotateBf16Rows: `decode` of rows of BF16 values, `rotate`, and `absmax` of each row. In groups of 256 values go
 * from their stored form into the first stages, and the maximum is found as the last ones are stored. With `add` each
 * value is first increased by what x holds.
 *
 * Layout: n f32 in place, n a multiple of groupSize, a power of 4. Any alignment. No tail.
 * NaN and infinity spread over their run. Class: exact.
 */

import { absmaxSegment } from "./absmax";
import { decodeBf16 } from "./decode";
import { keepF32 } from "./lib/constants";
import { maxLanesF32 } from "./lib/lanes";

export function rotate(x: usize, n: usize, groupSize: usize): void {
  if (groupSize == 1) return;
  for (let at: usize = 0; at < n; at += groupSize) rotateGroup(x + (at << 2), groupSize);
}

export function rotateBf16Rows(
  x: usize,
  largest: usize,
  source: usize,
  rows: usize,
  cols: usize,
  groupSize: usize,
  add: i32,
): void {
  for (let r: usize = 0; r < rows; r++) {
    if (groupSize == 256) {
      let most = i64x2.splat(0);
      for (let at: usize = 0; at < cols; at += 256) {
        if (add) twoStagesOfSum(x + (at << 2), source + (at << 1));
        else twoStagesOfBf16(x + (at << 2), source + (at << 1));
        most = lastTwoStagesOf(x + (at << 2), 1024, most);
      }
      store<f32>(largest, maxLanesF32(most));
    } else {
      if (add) addBf16(x, source, cols);
      else decodeBf16(x, source, cols);
      rotate(x, cols, groupSize);
      store<f32>(largest, absmaxSegment(x, cols));
    }
    x += cols << 2;
    source += cols << 1;
    largest += 4;
  }
}

/** Increases n values by BF16 ones. */
function addBf16(x: usize, source: usize, n: usize): void {
  const whole = n & ~3;
  for (let i: usize = 0; i < whole; i += 4) {
    const p = x + (i << 2);
    v128.store(p, fourOf(p, source + (i << 1), SUM));
  }
  for (let i = whole; i < n; i++) {
    const p = x + (i << 2), value = reinterpret<f32>(<u32>load<u16>(source + (i << 1)) << 16);
    store<f32>(p, value + load<f32>(p));
  }
}

/** What 16 magnitudes may add up to, in units of a maximum, before their rotation is looked at: 4, less rounding. */
const ADDED: f32 = 3.9999;

export function rotatedAbsmax(x: usize, n: usize, groupSize: usize, least: f32): f32 {
  let largest = least;
  if (groupSize < 16) {
    rotate(x, n, groupSize);
    for (let i: usize = 0; i < n; i++) {
      const value = abs(load<f32>(x + (i << 2)));
      if (value > largest) largest = value;
    }
    return largest;
  }
  for (let at: usize = 0; at < n; at += groupSize) {
    const group = x + (at << 2);
    firstStages(group, groupSize);
    for (let i: usize = 0; i < groupSize; i += 64) {
      largest = largestOf16s(group + (i << 2), min<usize>(4, (groupSize - i) >> 4), largest);
    }
  }
  return largest;
}

/** The larger of `largest` and the magnitudes of up to four runs of 16 values after the last two stages. */
// @ts-ignore: decorator
@inline
function largestOf16s(x: usize, runs: usize, largest: f32): f32 {
  if (runs == 4) {
    const a = magnitudes16(x), b = magnitudes16(x + 64);
    const c = magnitudes16(x + 128), d = magnitudes16(x + 192);
    const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 1, 4, 5), v128.shuffle<f32>(a, b, 2, 3, 6, 7));
    const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 1, 4, 5), v128.shuffle<f32>(c, d, 2, 3, 6, 7));
    const sums = f32x4.add(
      v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7),
    );
    if (!v128.any_true(f32x4.gt(sums, f32x4.splat(ADDED * largest)))) return largest;
  }
  return rotated16s(x, runs, largest);
}

/** The same without a look at sums. */
function rotated16s(x: usize, runs: usize, largest: f32): f32 {
  lastTwoStages(x, runs << 6);
  let most = f32x4.splat(largest);
  for (let i: usize = 0; i < runs << 6; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)));
  return maxLanesF32(most);
}

/** Sums of the magnitudes of 16 values, in four lanes. */
// @ts-ignore: decorator
@inline
function magnitudes16(p: usize): v128 {
  return f32x4.add(
    f32x4.add(f32x4.abs(v128.load(p)), f32x4.abs(v128.load(p, 16))),
    f32x4.add(f32x4.abs(v128.load(p, 32)), f32x4.abs(v128.load(p, 48))),
  );
}

/** One run: the last two stages together, those before them in pairs, an odd one alone and first. */
function rotateGroup(x: usize, size: usize): void {
  if (size == 4) {
    v128.store(x, lastStage(v128.load(x), keepF32(0.5)));
    return;
  }
  firstStages(x, size);
  lastTwoStages(x, size << 2);
}

/** All stages but the last two. */
function firstStages(x: usize, size: usize): void {
  const bytes = size << 2, stages = ctz(size) >> 1;
  let stride = bytes >> 2;
  if (stages > 2 && (stages & 1) != 0) {
    oneStage(x, stride);
    stride >>= 2;
  }
  for (; stride >= 256; stride >>= 4) {
    for (let block: usize = 0; block < bytes; block += stride << 2) {
      if (stride == 256) twoStages64(x + block);
      else twoStages(x + block, stride >> 2);
    }
  }
}

/** The stage over four rows of `stride` bytes. */
function oneStage(x: usize, stride: usize): void {
  const half = keepF32(0.5);
  const x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride;
  for (let i: usize = 0; i < stride; i += 16) {
    const a = v128.load(x + i), b = v128.load(x1 + i), c = v128.load(x2 + i), d = v128.load(x3 + i);
    const h = sumHalf(a, b, c, d, half);
    v128.store(x + i, f32x4.sub(h, d));
    v128.store(x1 + i, f32x4.sub(h, c));
    v128.store(x2 + i, f32x4.sub(h, b));
    v128.store(x3 + i, f32x4.sub(h, a));
  }
}

/** The stages of strides 4 * stride and stride, in bytes, over sixteen rows of `stride` bytes. */
function twoStages(x: usize, stride: usize): void {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < stride; i += 16) sixteen(x + i, stride, half, 0, FLOAT);
}

/** The same for a stride of 64 bytes, known to the compiler: addresses become constant offsets. */
function twoStages64(x: usize): void {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < 64; i += 16) sixteen(x + i, 64, half, 0, FLOAT);
}

/** The same for values that are BF16 at `source`. */
function twoStagesOfBf16(x: usize, source: usize): void {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < 64; i += 16) sixteen(x + i, 64, half, source + (i >> 1), BF16);
}

/** The same for the sums of values at `x` and BF16 ones at `source`. */
function twoStagesOfSum(x: usize, source: usize): void {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < 64; i += 16) sixteen(x + i, 64, half, source + (i >> 1), SUM);
}

/** What is read: f32 at `p`, BF16 at `source`, or both, to be added. */
const FLOAT: i32 = 0, BF16: i32 = 1, SUM: i32 = 2;

/** Four values as f32. */
// @ts-ignore: decorator
@inline
function fourOf(p: usize, source: usize, form: i32): v128 {
  if (form == FLOAT) return v128.load(p);
  const stored = v128.shuffle<u16>(
    i64x2.splat(0), v128.load64_zero(source), 0, 8, 1, 9, 2, 10, 3, 11,
  );
  return form == BF16 ? stored : f32x4.add(stored, v128.load(p));
}

/**
 * Two stages on sixteen vectors, `s` bytes apart, in registers: half the memory traffic of one after
 * the other. They are read as `fourOf` reads them.
 */
// @ts-ignore: decorator
@inline
function sixteen(p: usize, s: usize, half: v128, source: usize, form: i32): void {
  let v0 = fourOf(p, source, form);
  let v1 = fourOf(p + s, source + (s >> 1), form);
  let v2 = fourOf(p + 2 * s, source + 2 * (s >> 1), form);
  let v3 = fourOf(p + 3 * s, source + 3 * (s >> 1), form);
  let v4 = fourOf(p + 4 * s, source + 4 * (s >> 1), form);
  let v5 = fourOf(p + 5 * s, source + 5 * (s >> 1), form);
  let v6 = fourOf(p + 6 * s, source + 6 * (s >> 1), form);
  let v7 = fourOf(p + 7 * s, source + 7 * (s >> 1), form);
  let v8 = fourOf(p + 8 * s, source + 8 * (s >> 1), form);
  let v9 = fourOf(p + 9 * s, source + 9 * (s >> 1), form);
  let v10 = fourOf(p + 10 * s, source + 10 * (s >> 1), form);
  let v11 = fourOf(p + 11 * s, source + 11 * (s >> 1), form);
  let v12 = fourOf(p + 12 * s, source + 12 * (s >> 1), form);
  let v13 = fourOf(p + 13 * s, source + 13 * (s >> 1), form);
  let v14 = fourOf(p + 14 * s, source + 14 * (s >> 1), form);
  let v15 = fourOf(p + 15 * s, source + 15 * (s >> 1), form);
  // Stride 4 s: rows j, j + 4, j + 8, j + 12.
  let h0 = sumHalf(v0, v4, v8, v12, half), t0 = v0, u0 = v4;
  v0 = f32x4.sub(h0, v12);
  v4 = f32x4.sub(h0, v8);
  v8 = f32x4.sub(h0, u0);
  v12 = f32x4.sub(h0, t0);
  let h1 = sumHalf(v1, v5, v9, v13, half), t1 = v1, u1 = v5;
  v1 = f32x4.sub(h1, v13);
  v5 = f32x4.sub(h1, v9);
  v9 = f32x4.sub(h1, u1);
  v13 = f32x4.sub(h1, t1);
  let h2 = sumHalf(v2, v6, v10, v14, half), t2 = v2, u2 = v6;
  v2 = f32x4.sub(h2, v14);
  v6 = f32x4.sub(h2, v10);
  v10 = f32x4.sub(h2, u2);
  v14 = f32x4.sub(h2, t2);
  let h3 = sumHalf(v3, v7, v11, v15, half), t3 = v3, u3 = v7;
  v3 = f32x4.sub(h3, v15);
  v7 = f32x4.sub(h3, v11);
  v11 = f32x4.sub(h3, u3);
  v15 = f32x4.sub(h3, t3);
  // Stride s: rows 4 j, 4 j + 1, 4 j + 2, 4 j + 3.
  h0 = sumHalf(v0, v1, v2, v3, half);
  v128.store(p, f32x4.sub(h0, v3));
  v128.store(p + s, f32x4.sub(h0, v2));
  v128.store(p + 2 * s, f32x4.sub(h0, v1));
  v128.store(p + 3 * s, f32x4.sub(h0, v0));
  h1 = sumHalf(v4, v5, v6, v7, half);
  v128.store(p + 4 * s, f32x4.sub(h1, v7));
  v128.store(p + 5 * s, f32x4.sub(h1, v6));
  v128.store(p + 6 * s, f32x4.sub(h1, v5));
  v128.store(p + 7 * s, f32x4.sub(h1, v4));
  h2 = sumHalf(v8, v9, v10, v11, half);
  v128.store(p + 8 * s, f32x4.sub(h2, v11));
  v128.store(p + 9 * s, f32x4.sub(h2, v10));
  v128.store(p + 10 * s, f32x4.sub(h2, v9));
  v128.store(p + 11 * s, f32x4.sub(h2, v8));
  h3 = sumHalf(v12, v13, v14, v15, half);
  v128.store(p + 12 * s, f32x4.sub(h3, v15));
  v128.store(p + 13 * s, f32x4.sub(h3, v14));
  v128.store(p + 14 * s, f32x4.sub(h3, v13));
  v128.store(p + 15 * s, f32x4.sub(h3, v12));
}

/** The stages of strides 4 and 1 (elements), on 16 values at a time. */
function lastTwoStages(x: usize, bytes: usize): void {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < bytes; i += 64) {
    const p = x + i;
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    const h = sumHalf(a, b, c, d, half);
    v128.store(p, lastStage(f32x4.sub(h, d), half));
    v128.store(p, lastStage(f32x4.sub(h, c), half), 16);
    v128.store(p, lastStage(f32x4.sub(h, b), half), 32);
    v128.store(p, lastStage(f32x4.sub(h, a), half), 48);
  }
}

/** The same; returns the largest magnitudes, and those in `most`. NaN is ignored, as in `absmax`. */
function lastTwoStagesOf(x: usize, bytes: usize, most: v128): v128 {
  const half = keepF32(0.5);
  for (let i: usize = 0; i < bytes; i += 64) {
    const p = x + i;
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    const h = sumHalf(a, b, c, d, half);
    const y0 = lastStage(f32x4.sub(h, d), half), y1 = lastStage(f32x4.sub(h, c), half);
    const y2 = lastStage(f32x4.sub(h, b), half), y3 = lastStage(f32x4.sub(h, a), half);
    v128.store(p, y0);
    v128.store(p, y1, 16);
    v128.store(p, y2, 32);
    v128.store(p, y3, 48);
    most = f32x4.pmax(most, f32x4.abs(y0));
    most = f32x4.pmax(most, f32x4.abs(y1));
    most = f32x4.pmax(most, f32x4.abs(y2));
    most = f32x4.pmax(most, f32x4.abs(y3));
  }
  return most;
}

/** ((a + d) + (b + c)) * 0.5 */
// @ts-ignore: decorator
@inline
function sumHalf(a: v128, b: v128, c: v128, d: v128, half: v128): v128 {
  return f32x4.mul(f32x4.add(f32x4.add(a, d), f32x4.add(b, c)), half);
}

/** The stage of stride 1 within a vector: every lane of `sum` is (a + d) + (b + c). */
// @ts-ignore: decorator
@inline
function lastStage(v: v128, half: v128): v128 {
  const reversed = v128.shuffle<f32>(v, v, 3, 2, 1, 0);
  const pairs = f32x4.add(v, reversed);
  const sum = f32x4.add(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2));
  return f32x4.sub(f32x4.mul(sum, half), reversed);
}
