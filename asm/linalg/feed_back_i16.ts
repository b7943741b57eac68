/** The feedback of rounded columns into those to come, in 16-bit integers: packErrors, packFactor, feedBack.
 *
 *     e[r,k] ~ eScale[r] * p[r,k],   l[k,j] ~ lScale[j] * q[k,j]       p, q integers within +-32767
 *     scale  = max(m / 32767, m / 46300 * sqrt(sum over k of (x[k] / m)^2)),   m = max |x[k]|
 *     c[r,j] = f32(sum over k of p[r,k] * q[k,j]) * lScale[j] * eScale[r], or is increased by it
 *
 * for at most 128 terms k; x is a row of e or a column of l. `i32x4.dot_i16x8_s` multiplies eight numbers
 * and adds them in pairs, twice the work per instruction of a multiplication in f32, and integer additions
 * have an execution port more. The second bound on a scale is what keeps every sum, also within the
 * instruction, below 2^31, by Cauchy-Schwarz: a line of integers has a norm of at most 46300, and of
 * sqrt(128) / 2 and what f32 rounds more, so two of them have a product of at most 46307^2 < 2^31. With 64
 * terms the integers have about 14 bits, so a product is off by 2^-14 of a usual one; errors of either sign
 * cancel in the sum.
 *
 * Arithmetic: all in f32. Squares of a column are summed down it; those of a row in four partial sums,
 * one for each k mod 4 of the whole multiples of 4, s = (s0 + s1) + (s2 + s3), to which the rest is added.
 * Quotients are true divisions, integers rounded half to even and clamped; a line of zeros has the scale 0,
 * and 0 / 0 gives 0. The product of the three factors is made from left to right. A row with a NaN or an
 * infinity gives NaN. Integer sums do not depend on their order, and the rest is IEEE f32. Class: exact.
 * (Lines of subnormal numbers may have sums beyond 2^31, which wrap: they stay next to nothing.)
 *
 * Layout of packed numbers, i16: pairs of terms, the last padded with 0. Errors: strips of 4 rows, the last
 * padded with rows of 0, each [pairs, 4 rows, 2]. Factor: strips of 8 columns, each [pairs, 8 columns, 2].
 */

const INTEGER_MAX: f32 = 32767;
const NORM_MAX: f32 = 46300;

const TILE_ROWS: usize = 4;
const TILE_COLS: usize = 8;

/**
 * Packs e, f32 [rows, cols] with eRow elements from row to row. Any alignment. `scales` f32 and `out`
 * have room for a multiple of 4 rows.
 */
export function packErrors(
  out: usize, scales: usize, e: usize, rows: usize, cols: usize, eRow: usize,
): void {
  const pairs = (cols + 1) >> 1, padded = (rows + 3) & ~3;
  for (let r: usize = 0; r < padded; r++) {
    const strip = out + ((r & ~3) * pairs << 2) + ((r & 3) << 2);
    if (r < rows) store<f32>(scales + (r << 2), packRow(strip, e + (r * eRow << 2), cols));
    else {
      store<f32>(scales + (r << 2), 0);
      for (let p: usize = 0; p < pairs; p++) store<i32>(strip + (p << 4), 0);
    }
  }
}

/** Returns the scale. */
function packRow(out: usize, e: usize, cols: usize): f32 {
  const whole = cols & ~3;
  let most = i32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 4) most = larger(most, v128.load(e + (k << 2)));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
  let largest = f32x4.extract_lane(most, 0);
  for (let k = whole; k < cols; k++) largest = max(largest, abs(load<f32>(e + (k << 2))));
  const scale: f32 = largest == 0 ? 0 : scaleOfLine(largest, squaresOfRow(e, cols, largest));
  const divisor = f32x4.splat(scale);
  const whole8 = cols & ~7;
  for (let k: usize = 0; k < whole8; k += 8) {
    const at = e + (k << 2), to = out + (k << 3);
    const codes = i16x8.narrow_i32x4_s(
      integers(f32x4.div(v128.load(at), divisor)), integers(f32x4.div(v128.load(at, 16), divisor)),
    );
    v128.store32_lane(to, codes, 0);
    v128.store32_lane(to, codes, 1, 16);
    v128.store32_lane(to, codes, 2, 32);
    v128.store32_lane(to, codes, 3, 48);
  }
  for (let k = whole8; k < whole; k += 4) {
    const q = integers(f32x4.div(v128.load(e + (k << 2)), divisor));
    const codes = i16x8.narrow_i32x4_s(q, q);
    v128.store32_lane(out + (k << 3), codes, 0);
    v128.store32_lane(out + (k << 3), codes, 1, 16);
  }
  for (let k = whole; k < cols; k += 2) {
    const second: f32 = k + 1 < cols ? load<f32>(e + (k << 2), 4) : 0;
    const q = integers(
      f32x4.div(f32x4.replace_lane(f32x4.splat(load<f32>(e + (k << 2))), 1, second), divisor),
    );
    v128.store32_lane(out + (k << 3), i16x8.narrow_i32x4_s(q, q), 0);
  }
  return scale;
}

/** Of a line whose numbers are at most `largest`, by the sum of squares of their quotients by it. */
// @ts-ignore: decorator
@inline
function scaleOfLine(largest: f32, squares: f32): f32 {
  return max(largest / INTEGER_MAX, largest / NORM_MAX * sqrt<f32>(squares));
}

/** The sum of (e[k] / largest)^2. */
function squaresOfRow(e: usize, cols: usize, largest: f32): f32 {
  const whole = cols & ~3, divisor = f32x4.splat(largest);
  let sums = f32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 4) {
    const x = f32x4.div(v128.load(e + (k << 2)), divisor);
    sums = f32x4.add(sums, f32x4.mul(x, x));
  }
  let sum = (f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)) +
    (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3));
  for (let k = whole; k < cols; k++) {
    const x = load<f32>(e + (k << 2)) / largest;
    sum += x * x;
  }
  return sum;
}

/** The larger magnitudes; as integers, so that NaN is the largest. */
// @ts-ignore: decorator
@inline
function larger(most: v128, x: v128): v128 {
  return i32x4.max_s(most, v128.and(x, i32x4.splat(0x7fffffff)));
}

/** 1.5 * 2^23, next to which numbers in f32 are whole, and their last bits are integers. */
const WHOLE: f32 = 12582912;

/** The nearest integers, ties to even, within +-32767; 0 for NaN. */
// @ts-ignore: decorator
@inline
function integers(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.splat(INTEGER_MAX), f32x4.pmax(f32x4.splat(-INTEGER_MAX), x));
  const whole = i32x4.sub(f32x4.add(clamped, f32x4.splat(WHOLE)), f32x4.splat(WHOLE));
  return v128.and(whole, f32x4.eq(x, x));
}

/**
 * Packs l, f32 [terms, cols] with lRow elements from row to row; cols is a multiple of 8, terms at most
 * 128. Any alignment.
 */
export function packFactor(
  out: usize, scales: usize, l: usize, terms: usize, cols: usize, lRow: usize,
): void {
  const pairs = (terms + 1) >> 1, rowBytes = lRow << 2;
  for (let j: usize = 0; j < cols; j += TILE_COLS) {
    for (let half: usize = 0; half < TILE_COLS; half += 4) {
      const at = l + (j + half << 2), to = out + (j * pairs << 2) + (half << 2);
      const scale = scaleOfColumns(at, terms, rowBytes);
      v128.store(scales + (j + half << 2), scale);
      for (let p: usize = 0; p < pairs; p++) {
        const k = p << 1, from = at + k * rowBytes;
        const even = integers(f32x4.div(v128.load(from), scale));
        const odd = k + 1 < terms
          ? integers(f32x4.div(v128.load(from + rowBytes), scale))
          : i32x4.splat(0);
        v128.store(
          to + (p << 5),
          v128.or(v128.and(even, i32x4.splat(0xffff)), i32x4.shl(odd, 16)),
        );
      }
    }
  }
}

/** Of four columns. */
function scaleOfColumns(l: usize, terms: usize, rowBytes: usize): v128 {
  let most = i32x4.splat(0), sum = f32x4.splat(0);
  for (let k: usize = 0; k < terms; k++) most = larger(most, v128.load(l + k * rowBytes));
  for (let k: usize = 0; k < terms; k++) {
    const x = f32x4.div(v128.load(l + k * rowBytes), most);
    sum = f32x4.add(sum, f32x4.mul(x, x));
  }
  const scale = f32x4.max(
    f32x4.div(most, f32x4.splat(INTEGER_MAX)),
    f32x4.mul(f32x4.div(most, f32x4.splat(NORM_MAX)), f32x4.sqrt(sum)),
  );
  return v128.andnot(scale, f32x4.eq(most, f32x4.splat(0)));
}

/**
 * c, f32 [rows rounded up to 4, cols] with cRow elements from row to row; e and l packed, cols a multiple
 * of 8. Writes whole tiles: rows up to a multiple of 4. `add`: 0 to replace c, 1 to add to it.
 */
export function feedBack(
  c: usize, e: usize, eScales: usize, l: usize, lScales: usize,
  rows: usize, cols: usize, terms: usize, cRow: usize, add: i32,
): void {
  const pairs = (terms + 1) >> 1, rowBytes = cRow << 2;
  for (let j: usize = 0; j < cols; j += TILE_COLS) {
    const factor = l + (j * pairs << 2), lScale = lScales + (j << 2);
    for (let i: usize = 0; i < rows; i += TILE_ROWS) {
      multiplyTile(
        c + i * rowBytes + (j << 2), e + (i * pairs << 2), factor,
        eScales + (i << 2), lScale, pairs, rowBytes, add,
      );
    }
  }
}

function multiplyTile(
  c: usize, e: usize, l: usize, eScales: usize, lScales: usize,
  pairs: usize, rowBytes: usize, add: i32,
): void {
  let s00 = i32x4.splat(0), s01 = i32x4.splat(0), s10 = i32x4.splat(0), s11 = i32x4.splat(0);
  let s20 = i32x4.splat(0), s21 = i32x4.splat(0), s30 = i32x4.splat(0), s31 = i32x4.splat(0);
  // Two pairs per turn: what counts and jumps is then shared by 32 products.
  const end = e + ((pairs & ~1) << 4);
  while (e < end) {
    let l0 = v128.load(l), l1 = v128.load(l, 16), four = v128.load(e);
    let x = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(x, l0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(x, l0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(x, l0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(x, l0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(x, l1));
    l0 = v128.load(l, 32);
    l1 = v128.load(l, 48);
    four = v128.load(e, 16);
    x = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(x, l0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(x, l0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(x, l0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(x, l0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(x, l1));
    e += 32;
    l += 64;
  }
  if (pairs & 1) {
    const l0 = v128.load(l), l1 = v128.load(l, 16), four = v128.load(e);
    let x = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(x, l0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(x, l0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(x, l0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(x, l1));
    x = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(x, l0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(x, l1));
  }
  const l0 = v128.load(lScales), l1 = v128.load(lScales, 16);
  finishRow(c, s00, s01, l0, l1, v128.load32_splat(eScales), add);
  finishRow(c + rowBytes, s10, s11, l0, l1, v128.load32_splat(eScales, 4), add);
  finishRow(c + 2 * rowBytes, s20, s21, l0, l1, v128.load32_splat(eScales, 8), add);
  finishRow(c + 3 * rowBytes, s30, s31, l0, l1, v128.load32_splat(eScales, 12), add);
}

// @ts-ignore: decorator
@inline
function finishRow(
  c: usize, s0: v128, s1: v128, l0: v128, l1: v128, eScale: v128, add: i32,
): void {
  let x0 = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(s0), l0), eScale);
  let x1 = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(s1), l1), eScale);
  if (add) {
    x0 = f32x4.add(v128.load(c), x0);
    x1 = f32x4.add(v128.load(c, 16), x1);
  }
  v128.store(c, x0);
  v128.store(c, x1, 16);
}
