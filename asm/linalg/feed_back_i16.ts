/**
 * What rounded columns feed back into those to come, in 16-bit integers: packErrors, packFactor, feedBack.
 *
 *     e[r,k] ~ eScale[r] * p[r,k]      p integer within +-8191,   eScale[r] = max |e[r,:]| / 8191
 *     l[k,j] ~ lScale[j] * q[k,j]      q integer within +-32767,
 *                                      lScale[j] = max(max |l[:,j]| / 32767, sum |l[:,j]| / 262000)
 *     c[r,j] = f32(sum over k of p[r,k] * q[k,j]) * lScale[j] * eScale[r], or is increased by it
 *
 * for at most 128 terms k. `i32x4.dot_i16x8_s` multiplies eight numbers and adds them in pairs, twice the
 * work per instruction of a multiplication in f32, and integer additions have an execution port more. The
 * second bound on lScale is what keeps every sum, also within the instruction, below 2^31:
 * 8191 * (262000 + 128 / 2 + what f32 rounds) < 2^31. With it the integers have some 13 bits, so a
 * product is off by 2^-13 of a usual one; errors of either sign cancel in the sum.
 *
 * Arithmetic: sums of |l| go down the column in f32; quotients are true divisions in f32, rounded half to
 * even, clamped; 0 / 0 gives 0. The product of the three factors is made from left to right. A row with a
 * NaN or an infinity gives NaN. Integer sums do not depend on their order, and the rest is IEEE f32.
 * Class: exact.
 *
 * Layout of packed numbers, i16: pairs of terms, the last padded with 0. Errors: strips of 4 rows, the last
 * padded with rows of 0, each [pairs, 4 rows, 2]. Factor: strips of 8 columns, each [pairs, 8 columns, 2].
 */

const ERROR_MAX: f32 = 8191;
const FACTOR_MAX: f32 = 32767;
const FACTOR_SUM_MAX: f32 = 262000;

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
  let most = f32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 4) most = f32x4.max(most, f32x4.abs(v128.load(e + (k << 2))));
  let largest = max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
  for (let k = whole; k < cols; k++) largest = max(largest, abs(load<f32>(e + (k << 2))));
  const scale = largest / ERROR_MAX, divisor = f32x4.splat(scale);
  for (let k: usize = 0; k < whole; k += 4) {
    const q = integers(f32x4.div(v128.load(e + (k << 2)), divisor), ERROR_MAX);
    const codes = i16x8.narrow_i32x4_s(q, q);
    v128.store32_lane(out + (k << 3), codes, 0);
    v128.store32_lane(out + (k << 3), codes, 1, 16);
  }
  for (let k = whole; k < cols; k += 2) {
    const second: f32 = k + 1 < cols ? load<f32>(e + (k << 2), 4) : 0;
    const q = integers(
      f32x4.div(f32x4.replace_lane(f32x4.splat(load<f32>(e + (k << 2))), 1, second), divisor),
      ERROR_MAX,
    );
    v128.store32_lane(out + (k << 3), i16x8.narrow_i32x4_s(q, q), 0);
  }
  return scale;
}

/** The nearest integers, ties to even, within +-most; 0 for NaN. */
// @ts-ignore: decorator
@inline
function integers(x: v128, most: f32): v128 {
  const clamped = f32x4.min(f32x4.splat(most), f32x4.max(f32x4.splat(-most), x));
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(clamped));
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
        const even = integers(f32x4.div(v128.load(from), scale), FACTOR_MAX);
        const odd = k + 1 < terms
          ? integers(f32x4.div(v128.load(from + rowBytes), scale), FACTOR_MAX)
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
  let most = f32x4.splat(0), sum = f32x4.splat(0);
  for (let k: usize = 0; k < terms; k++) {
    const magnitude = f32x4.abs(v128.load(l + k * rowBytes));
    most = f32x4.max(most, magnitude);
    sum = f32x4.add(sum, magnitude);
  }
  return f32x4.max(
    f32x4.div(most, f32x4.splat(FACTOR_MAX)),
    f32x4.div(sum, f32x4.splat(FACTOR_SUM_MAX)),
  );
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
  for (let p: usize = 0; p < pairs; p++) {
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
    e += 16;
    l += 32;
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
