/**
 * addLowRank: x[r, c] += sum over k of b[r, k] * a[k, c], for a small number of terms: the merge of a LoRA.
 *
 * A product whose inner dimension is small is bound by loads if it is packed as large ones are. Here only
 * strips of STRIP columns of `a` are copied to the workspace, one behind the other: where rows are a multiple of
 * 4 KiB, all rows of a strip would share the same few lines of the first-level cache. They stay there while all
 * rows go by, four rows and eight columns in registers. Sums begin at 0 in f32, k ascending, and are added to x last, so what
 * is rounded is the change, not the weight.
 *
 * Layout: x f32 [rows, cols], b f32 [rows, rank], a f32 [rank, cols], all contiguous row-major. Any
 * alignment. Rows are independent: any split gives the same. NaN and infinity as in f32. Class: exact.
 */

/** 64 columns of 16 ranks are 4 KiB. */
const STRIP: usize = 64;

/** Bytes of workspace for a strip, and behind it for `b`: 4 rows by 4 rows, factors of the same rank together. */
const STRIP_BYTES: usize = 1 << 20, FACTOR_BYTES: usize = 1 << 20;

export function addLowRank(
  x: usize, b: usize, a: usize, rows: usize, cols: usize, rank: usize, workspace: usize,
): void {
  const rowBytes = cols << 2, packedB = workspace + STRIP_BYTES;
  const isPacked = rank * (STRIP << 2) <= STRIP_BYTES && rank * (rows << 2) <= FACTOR_BYTES;
  if (isPacked) packFactors(packedB, b, rows & ~3, rank);
  for (let left: usize = 0; left < cols; left += STRIP) {
    const right = min(cols, left + STRIP), from = a + (left << 2);
    if (isPacked) packStrip(workspace, from, right - left, rowBytes, rank);
    // The strip: where it begins, less what columns are counted from, and its bytes from row to row.
    const strip = isPacked ? workspace - (left << 2) : a, step = isPacked ? STRIP << 2 : rowBytes;
    let r: usize = 0;
    for (; r + 4 <= rows; r += 4) {
      const row = x + r * rowBytes, factors = b + (r * rank << 2);
      let c = left;
      for (; isPacked && c + 8 <= right; c += 8) {
        addTile(row + (c << 2), packedB + (r * rank << 2), strip + (c << 2), rowBytes, rank);
      }
      for (; c < right; c++) {
        for (let i: usize = 0; i < 4; i++) {
          addOne(row + i * rowBytes + (c << 2), factors + (i * rank << 2), strip + (c << 2), step, rank);
        }
      }
    }
    for (; r < rows; r++) {
      const row = x + r * rowBytes, factors = b + (r * rank << 2);
      for (let c = left; c < right; c++) addOne(row + (c << 2), factors, strip + (c << 2), step, rank);
    }
  }
}

/** Copies `cols` columns of `rank` rows to rows of STRIP columns. */
function packStrip(out: usize, a: usize, cols: usize, rowBytes: usize, rank: usize): void {
  const bytes = cols << 2;
  for (let k: usize = 0; k < rank; k++) {
    const to = out + k * (STRIP << 2), from = a + k * rowBytes;
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) v128.store(to + i, v128.load(from + i));
    for (; i < bytes; i += 4) store<f32>(to + i, load<f32>(from + i));
  }
}

/** Copies rows by fours: of each rank the factors of the four rows. */
function packFactors(out: usize, b: usize, rows: usize, rank: usize): void {
  for (let r: usize = 0; r < rows; r++) {
    const to = out + ((r & ~3) * rank + (r & 3) << 2), from = b + (r * rank << 2);
    for (let k: usize = 0; k < rank; k++) store<f32>(to + (k << 4), load<f32>(from + (k << 2)));
  }
}

/** Four rows of eight columns, of copies: one load has the factors of all rows. */
// @ts-ignore: decorator
@inline
function addTile(x: usize, b: usize, a: usize, rowBytes: usize, rank: usize): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00;
  let s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  let row = a;
  for (let k: usize = 0; k < rank << 4; k += 16) {
    const a0 = v128.load(row), a1 = v128.load(row, 16), f = v128.load(b + k);
    const f0 = v128.shuffle<f32>(f, f, 0, 0, 0, 0), f1 = v128.shuffle<f32>(f, f, 1, 1, 1, 1);
    s00 = f32x4.add(s00, f32x4.mul(f0, a0));
    s01 = f32x4.add(s01, f32x4.mul(f0, a1));
    s10 = f32x4.add(s10, f32x4.mul(f1, a0));
    s11 = f32x4.add(s11, f32x4.mul(f1, a1));
    const f2 = v128.shuffle<f32>(f, f, 2, 2, 2, 2), f3 = v128.shuffle<f32>(f, f, 3, 3, 3, 3);
    s20 = f32x4.add(s20, f32x4.mul(f2, a0));
    s21 = f32x4.add(s21, f32x4.mul(f2, a1));
    s30 = f32x4.add(s30, f32x4.mul(f3, a0));
    s31 = f32x4.add(s31, f32x4.mul(f3, a1));
    row += STRIP << 2;
  }
  addTo(x, s00, s01);
  addTo(x + rowBytes, s10, s11);
  addTo(x + 2 * rowBytes, s20, s21);
  addTo(x + 3 * rowBytes, s30, s31);
}

// @ts-ignore: decorator
@inline
function addTo(x: usize, s0: v128, s1: v128): void {
  v128.store(x, f32x4.add(v128.load(x), s0));
  v128.store(x, f32x4.add(v128.load(x, 16), s1), 16);
}

function addOne(x: usize, b: usize, a: usize, step: usize, rank: usize): void {
  let sum: f32 = 0;
  for (let k: usize = 0; k < rank; k++) sum += load<f32>(b + (k << 2)) * load<f32>(a + k * step);
  store<f32>(x, load<f32>(x) + sum);
}
