/** Second moments of packed inputs: gramI16.
 *
 *     g[i,j] = sum over runs r of f32(sum over k of p[r,k,i] * p[r,k,j]) * (s[r,i] * s[r,j])
 *     h[i,j] = factor * g[i,j], or is increased by it; so is h[j,i]              for j <= i
 *
 * x is packed by packFactor (`feed_back_i16.ts`) in runs of RUN terms, the last one may be shorter: its columns
 * are channels, p its integers, s its scales, so that integer sums cannot overflow. Runs lie one behind the
 * other, each as if it were a matrix of its own; scales too, `cols` for each.
 *
 * Arithmetic: integer sums do not depend on their order; g is summed in f32 from the first run to the last,
 * beginning with the first itself, and its product with `factor` is made in f64. g[i,j] and g[j,i] would be the same
 * bits. A run with a NaN or an infinity in a column gives NaN there. Class: exact.
 *
 * Rows `first .. end` of h are made, both multiples of 8 but for no tail: cols is a multiple of 8. h is f64 with hRow
 * elements from row to row. `workspace` holds a tile of 8 x 8 f32. Any alignment.
 */

/** Terms of a run. Part of the layout. */
const RUN: usize = 64;
/** Columns of a strip of packed numbers, rows and columns of a tile. */
const STRIP: usize = 8;
/** Bytes of a pair of terms in a strip. */
const PAIR_BYTES: usize = 32;
/** Bytes of a row of the tile. */
const TILE_ROW_BYTES: usize = 32;

export function gramI16(
  h: usize, x: usize, scales: usize,
  cols: usize, terms: usize, first: usize, end: usize, hRow: usize,
  factor: f64, add: i32, workspace: usize,
): void {
  const strips = end / STRIP;
  if (terms == 0) memory.fill(workspace, 0, STRIP * TILE_ROW_BYTES);
  for (let j: usize = 0; j < strips; j++) {
    for (let i = max(j, first / STRIP); i < strips; i++) {
      multiplyRuns(workspace, x, scales, cols, terms, i, j);
      const corner = h + (i * hRow + j) * STRIP * 8;
      writeTile(corner, workspace, hRow << 3, factor, add);
      if (i != j) writeTransposed(h + (j * hRow + i) * STRIP * 8, workspace, hRow << 3, factor, add);
    }
  }
}

/** Fills the tile of strips i and j. */
function multiplyRuns(
  tile: usize, x: usize, scales: usize, cols: usize, terms: usize, i: usize, j: usize,
): void {
  for (let from: usize = 0; from < terms; from += RUN) {
    const pairs = (min(RUN, terms - from) + 1) >> 1, stripBytes = pairs * PAIR_BYTES;
    const run = x + (from * cols << 1), own = scales + ((from / RUN) * cols << 2);
    const rows = run + i * stripBytes, columns = run + j * stripBytes;
    const rowScales = own + (i * STRIP << 2), colScales = own + (j * STRIP << 2);
    multiplyHalf(tile, rows, columns, rowScales, colScales, pairs, from > 0);
    multiplyHalf(
      tile + 4 * TILE_ROW_BYTES, rows + 16, columns, rowScales + 16, colScales, pairs, from > 0,
    );
  }
}

/** Four rows of a tile, by one run. */
function multiplyHalf(
  tile: usize, rows: usize, columns: usize, rowScales: usize, colScales: usize,
  pairs: usize, add: bool,
): void {
  let s00 = i32x4.splat(0), s01 = i32x4.splat(0), s10 = i32x4.splat(0), s11 = i32x4.splat(0);
  let s20 = i32x4.splat(0), s21 = i32x4.splat(0), s30 = i32x4.splat(0), s31 = i32x4.splat(0);
  for (let p: usize = 0; p < pairs; p++) {
    const l0 = v128.load(columns), l1 = v128.load(columns, 16), four = v128.load(rows);
    let e = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(e, l0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(e, l1));
    e = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(e, l0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(e, l1));
    e = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(e, l0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(e, l1));
    e = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(e, l0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(e, l1));
    rows += PAIR_BYTES;
    columns += PAIR_BYTES;
  }
  const l0 = v128.load(colScales), l1 = v128.load(colScales, 16);
  finishRow(tile, s00, s01, l0, l1, v128.load32_splat(rowScales), add);
  finishRow(tile + TILE_ROW_BYTES, s10, s11, l0, l1, v128.load32_splat(rowScales, 4), add);
  finishRow(tile + 2 * TILE_ROW_BYTES, s20, s21, l0, l1, v128.load32_splat(rowScales, 8), add);
  finishRow(tile + 3 * TILE_ROW_BYTES, s30, s31, l0, l1, v128.load32_splat(rowScales, 12), add);
}

// @ts-ignore: decorator
@inline
function finishRow(
  tile: usize, s0: v128, s1: v128, l0: v128, l1: v128, rowScale: v128, add: bool,
): void {
  let x0 = f32x4.mul(f32x4.convert_i32x4_s(s0), f32x4.mul(l0, rowScale));
  let x1 = f32x4.mul(f32x4.convert_i32x4_s(s1), f32x4.mul(l1, rowScale));
  if (add) {
    x0 = f32x4.add(v128.load(tile), x0);
    x1 = f32x4.add(v128.load(tile, 16), x1);
  }
  v128.store(tile, x0);
  v128.store(tile, x1, 16);
}

/** Rows of the tile go to rows of h, `rowBytes` apart. */
function writeTile(h: usize, tile: usize, rowBytes: usize, factor: f64, add: i32): void {
  const by = f64x2.splat(factor);
  for (let r: usize = 0; r < STRIP; r++) {
    for (let c: usize = 0; c < STRIP; c += 2) {
      const pair = v128.load64_zero(tile + r * TILE_ROW_BYTES + (c << 2));
      writePair(h + r * rowBytes + (c << 3), f64x2.mul(f64x2.promote_low_f32x4(pair), by), add);
    }
  }
}

/** Columns of the tile go to rows of h. */
function writeTransposed(h: usize, tile: usize, rowBytes: usize, factor: f64, add: i32): void {
  const by = f64x2.splat(factor);
  for (let c: usize = 0; c < STRIP; c++) {
    for (let r: usize = 0; r < STRIP; r += 2) {
      const at = tile + r * TILE_ROW_BYTES + (c << 2);
      const pair = v128.load32_lane(at + TILE_ROW_BYTES, v128.load32_zero(at), 1);
      writePair(h + c * rowBytes + (r << 3), f64x2.mul(f64x2.promote_low_f32x4(pair), by), add);
    }
  }
}

// @ts-ignore: decorator
@inline
function writePair(h: usize, pair: v128, add: i32): void {
  v128.store(h, add ? f64x2.add(v128.load(h), pair) : pair);
}
