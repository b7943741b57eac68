/** The feedback of rounded columns in bytes: packErrorsI8, packFactorI8, feedBackI8.
 *
 *     e[r,k] ~ eScale[r] * p[r,k],   l[k,j] ~ lScale[j] * q[k,j]       p within +-63, q within +-127
 *     scale  = max |x[k]| / 63 of a row of e, / 127 of a column of l, over the terms of a run
 *     c[r,j] = sum over runs of f32(sum over k of p[r,k] * q[k,j]) * lScale[j] * eScale[r], or is increased by it
 *
 * Runs have RUN terms, the last one may be shorter. p is stored as p + 64, which is 1 to 127: that is what
 * `i32x4.relaxed_dot_i8x16_i7x16_add_s` takes. It multiplies sixteen numbers in one instruction, or in three, and is
 * exact: with an operand of seven bits a pair of products is at most 2 * 128 * 127 < 2^15, so that no engine
 * saturates or wraps, which is all that the name leaves open. Sums begin with start[j] = -64 * sum over k of q[k,j].
 * Engines without that instruction run the same sums in 16 bits (`feed_back_relaxed.ts` has the other build).
 *
 * Arithmetic: all in f32. Quotients are true divisions, integers rounded half to even and clamped; the product of the
 * three factors is made from left to right. A line of zeros has the scale 0, and NaN, which 0 / 0 is, becomes the
 * least integer. A row with a NaN or an infinity gives NaN. Integer sums do not depend on their order, and are below
 * 2^24, exact in f32. Class: exact.
 *
 * Layout: quads of terms, the last padded. Errors: strips of 4 rows, the last padded with rows of 0, each
 * [quads, 4 rows, 4 terms]. Factor: strips of 8 columns, each start i32 [8], then [quads, 8 columns, 4 terms]. Runs
 * lie one behind the other, as if each were a matrix of its own; so do their scales.
 */

/** Terms of a run. Part of the layout. */
const RUN: usize = 128;

const ERROR_MAX: f32 = 63;
const FACTOR_MAX: f32 = 127;
/** What is added to errors. */
const OFFSET: i32 = 64;

const TILE_ROWS: usize = 4;
const TILE_COLS: usize = 8;
/** Bytes of the starts of a strip, and of each of its quads. */
const STRIP_ROW: usize = 32;

/**
 * Packs e, f32 [rows, cols] with eRow elements from row to row, cols at most RUN. Any alignment. `scales` f32 and
 * `out` have room for a multiple of 4 rows.
 */
export function packErrorsI8(
  out: usize, scales: usize, e: usize, rows: usize, cols: usize, eRow: usize,
): void {
  const quads = (cols + 3) >> 2, padded = (rows + 3) & ~3;
  for (let r: usize = 0; r < padded; r++) {
    const strip = out + ((r & ~3) * quads << 2) + ((r & 3) << 2);
    if (r < rows) store<f32>(scales + (r << 2), packRow(strip, e + (r * eRow << 2), cols));
    else {
      store<f32>(scales + (r << 2), 0);
      for (let q: usize = 0; q < quads; q++) store<i32>(strip + (q << 4), OFFSET * 0x01010101);
    }
  }
}

/** Returns the scale. */
function packRow(out: usize, e: usize, cols: usize): f32 {
  const whole = cols & ~3;
  let most = i32x4.splat(0), rest = i32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 4) most = larger(most, v128.load(e + (k << 2)));
  if (whole < cols) {
    rest = v128.load32_zero(e + (whole << 2));
    if (cols - whole > 1) rest = f32x4.replace_lane(rest, 1, load<f32>(e + (whole << 2), 4));
    if (cols - whole > 2) rest = f32x4.replace_lane(rest, 2, load<f32>(e + (whole << 2), 8));
    most = larger(most, rest);
  }
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
  const scale = f32x4.extract_lane(most, 0) / ERROR_MAX, divisor = f32x4.splat(scale);
  const whole16 = cols & ~15;
  let k: usize = 0;
  for (; k < whole16; k += 16) {
    const at = e + (k << 2), to = out + (k << 2);
    const a = codesOf(v128.load(at), divisor), b = codesOf(v128.load(at, 16), divisor);
    const c = codesOf(v128.load(at, 32), divisor), d = codesOf(v128.load(at, 48), divisor);
    const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
    v128.store32_lane(to, bytes, 0);
    v128.store32_lane(to, bytes, 1, 16);
    v128.store32_lane(to, bytes, 2, 32);
    v128.store32_lane(to, bytes, 3, 48);
  }
  for (; k < whole; k += 4) packQuad(out + (k << 2), codesOf(v128.load(e + (k << 2)), divisor));
  if (whole < cols) packQuad(out + (whole << 2), codesOf(rest, divisor));
  return scale;
}

/** The larger magnitudes; as integers, so that NaN is the largest. */
// @ts-ignore: decorator
@inline
function larger(most: v128, x: v128): v128 {
  return i32x4.max_s(most, v128.and(x, i32x4.splat(0x7fffffff)));
}

// @ts-ignore: decorator
@inline
function codesOf(x: v128, divisor: v128): v128 {
  return i32x4.add(integers(f32x4.div(x, divisor), ERROR_MAX), i32x4.splat(OFFSET));
}

// @ts-ignore: decorator
@inline
function packQuad(out: usize, codes: v128): void {
  const words = i16x8.narrow_i32x4_s(codes, codes);
  v128.store32_lane(out, i8x16.narrow_i16x8_s(words, words), 0);
}

/** 1.5 * 2^23, next to which numbers in f32 are whole, and their last bits are integers. */
const WHOLE: f32 = 12582912;

/** The nearest integers, ties to even, within +-most, below 2^21; -most for NaN. */
// @ts-ignore: decorator
@inline
function integers(x: v128, most: f32): v128 {
  const clamped = f32x4.pmin(f32x4.splat(most), f32x4.pmax(f32x4.splat(-most), x));
  return i32x4.sub(f32x4.add(clamped, f32x4.splat(WHOLE)), f32x4.splat(WHOLE));
}

/**
 * Packs l, f32 [terms, cols] with lRow elements from row to row; cols is a multiple of 8, terms at most RUN. Any
 * alignment.
 */
export function packFactorI8(
  out: usize, scales: usize, l: usize, terms: usize, cols: usize, lRow: usize,
): void {
  const quads = (terms + 3) >> 2, rowBytes = lRow << 2;
  for (let j: usize = 0; j < cols; j += TILE_COLS) {
    for (let half: usize = 0; half < TILE_COLS; half += 4) {
      const at = l + (j + half << 2), to = out + (j * (quads + 1) << 2) + (half << 2);
      let most = i32x4.splat(0), sum = i32x4.splat(0);
      for (let k: usize = 0; k < terms; k++) most = larger(most, v128.load(at + k * rowBytes));
      const scale = f32x4.div(most, f32x4.splat(FACTOR_MAX));
      v128.store(scales + (j + half << 2), scale);
      for (let q: usize = 0; q < quads; q++) {
        let bytes = i32x4.splat(0);
        for (let k: usize = 0; k < 4; k++) {
          if ((q << 2) + k >= terms) break;
          const row = v128.load(at + ((q << 2) + k) * rowBytes);
          const codes = integers(f32x4.div(row, scale), FACTOR_MAX);
          sum = i32x4.add(sum, codes);
          const own = v128.and(codes, i32x4.splat(0xff));
          bytes = v128.or(bytes, i32x4.shl(own, <i32>k << 3));
        }
        v128.store(to + STRIP_ROW + q * STRIP_ROW, bytes);
      }
      v128.store(to, i32x4.mul(sum, i32x4.splat(-OFFSET)));
    }
  }
}

/**
 * c, f32 [rows, cols] with cRow elements from row to row, rows a multiple of 4, cols of 8; e and l packed. `add`: 0 to
 * replace c, 1 to add to it.
 */
export function feedBackI8(
  c: usize, e: usize, eScales: usize, l: usize, lScales: usize,
  rows: usize, cols: usize, terms: usize, cRow: usize, add: i32,
): void {
  const rowBytes = cRow << 2;
  let from: usize = 0;
  do {
    const quads = (min(RUN, terms - from) + 3) >> 2;
    for (let j: usize = 0; j < cols; j += TILE_COLS) {
      const strip = l + (j * (quads + 1) << 2), lScale = lScales + (j << 2);
      for (let i: usize = 0; i < rows; i += TILE_ROWS) {
        const at = c + i * rowBytes + (j << 2), errors = e + (i * quads << 2);
        const eScale = eScales + (i << 2);
        if (ASC_FEATURE_RELAXED_SIMD) {
          multiplyTile(at, errors, strip, eScale, lScale, quads, rowBytes, add);
        } else {
          multiplyHalf(at, errors, strip, eScale, lScale, quads, rowBytes, add);
          multiplyHalf(
            at + 16, errors, strip + 16, eScale, lScale + 16, quads, rowBytes, add,
          );
        }
      }
    }
    e += rows * quads << 2;
    eScales += rows << 2;
    l += cols * (quads + 1) << 2;
    lScales += cols << 2;
    from += RUN;
    add = 1;
  } while (from < terms);
}

/** Four rows by eight columns. */
function multiplyTile(
  c: usize, e: usize, l: usize, eScales: usize, lScales: usize,
  quads: usize, rowBytes: usize, add: i32,
): void {
  let s00 = v128.load(l), s01 = v128.load(l, 16);
  let s10 = s00, s11 = s01, s20 = s00, s21 = s01, s30 = s00, s31 = s01;
  l += STRIP_ROW;
  for (let q: usize = 0; q < quads; q++) {
    const l0 = v128.load(l), l1 = v128.load(l, 16), four = v128.load(e);
    let x = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, x, s00);
    s01 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, x, s01);
    x = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, x, s10);
    s11 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, x, s11);
    x = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, x, s20);
    s21 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, x, s21);
    x = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, x, s30);
    s31 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, x, s31);
    e += 16;
    l += STRIP_ROW;
  }
  const l0 = v128.load(lScales), l1 = v128.load(lScales, 16);
  const e0 = v128.load32_splat(eScales), e1 = v128.load32_splat(eScales, 4);
  const e2 = v128.load32_splat(eScales, 8), e3 = v128.load32_splat(eScales, 12);
  finish(c, s00, l0, e0, add);
  finish(c + 16, s01, l1, e0, add);
  finish(c + rowBytes, s10, l0, e1, add);
  finish(c + rowBytes + 16, s11, l1, e1, add);
  finish(c + 2 * rowBytes, s20, l0, e2, add);
  finish(c + 2 * rowBytes + 16, s21, l1, e2, add);
  finish(c + 3 * rowBytes, s30, l0, e3, add);
  finish(c + 3 * rowBytes + 16, s31, l1, e3, add);
}

/** Four rows by four columns in 16 bits: sums of two terms each, which are joined in the end. */
function multiplyHalf(
  c: usize, e: usize, l: usize, eScales: usize, lScales: usize,
  quads: usize, rowBytes: usize, add: i32,
): void {
  const start = v128.load(l);
  let s00 = i32x4.splat(0), s01 = i32x4.splat(0), s10 = i32x4.splat(0), s11 = i32x4.splat(0);
  let s20 = i32x4.splat(0), s21 = i32x4.splat(0), s30 = i32x4.splat(0), s31 = i32x4.splat(0);
  l += STRIP_ROW;
  for (let q: usize = 0; q < quads; q++) {
    const four = v128.load(l);
    const l0 = i16x8.extend_low_i8x16_s(four), l1 = i16x8.extend_high_i8x16_s(four);
    let x = i16x8.extend_low_i8x16_s(v128.load32_splat(e));
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(l0, x));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(l1, x));
    x = i16x8.extend_low_i8x16_s(v128.load32_splat(e, 4));
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(l0, x));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(l1, x));
    x = i16x8.extend_low_i8x16_s(v128.load32_splat(e, 8));
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(l0, x));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(l1, x));
    x = i16x8.extend_low_i8x16_s(v128.load32_splat(e, 12));
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(l0, x));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(l1, x));
    e += 16;
    l += STRIP_ROW;
  }
  const lScale = v128.load(lScales);
  finish(c, joined(s00, s01, start), lScale, v128.load32_splat(eScales), add);
  finish(c + rowBytes, joined(s10, s11, start), lScale, v128.load32_splat(eScales, 4), add);
  finish(c + 2 * rowBytes, joined(s20, s21, start), lScale, v128.load32_splat(eScales, 8), add);
  finish(c + 3 * rowBytes, joined(s30, s31, start), lScale, v128.load32_splat(eScales, 12), add);
}

// @ts-ignore: decorator
@inline
function joined(s0: v128, s1: v128, start: v128): v128 {
  const even = v128.shuffle<i32>(s0, s1, 0, 2, 4, 6), odd = v128.shuffle<i32>(s0, s1, 1, 3, 5, 7);
  return i32x4.add(i32x4.add(even, odd), start);
}

// @ts-ignore: decorator
@inline
function finish(c: usize, sums: v128, lScale: v128, eScale: v128, add: i32): void {
  const x = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(sums), lScale), eScale);
  v128.store(c, add ? f32x4.add(v128.load(c), x) : x);
}
