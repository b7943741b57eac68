/**
 * addLowRank: x[r, c] += sum over k of b[r, k] * a[k, c], for a small number of terms: the merge of a LoRA.
 *
 * A product whose inner dimension is small is bound by loads if it is packed as large ones are. Here
 * nothing is packed: strips of STRIP columns of `a` stay in the first-level cache while all rows go by, four
 * rows and eight columns in registers. Sums begin at 0 in f32, k ascending, and are added to x last, so what
 * is rounded is the change, not the weight.
 *
 * Layout: x f32 [rows, cols], b f32 [rows, rank], a f32 [rank, cols], all contiguous row-major. Any
 * alignment. Rows are independent: any split gives the same. NaN and infinity as in f32. Class: exact.
 */

/** 64 columns of 16 ranks are 4 KiB. */
const STRIP: usize = 64;

export function addLowRank(x: usize, b: usize, a: usize, rows: usize, cols: usize, rank: usize): void {
  const rowBytes = cols << 2;
  for (let left: usize = 0; left < cols; left += STRIP) {
    const right = min(cols, left + STRIP);
    let r: usize = 0;
    for (; r + 4 <= rows; r += 4) {
      const row = x + r * rowBytes, factors = b + (r * rank << 2);
      let c = left;
      for (; c + 8 <= right; c += 8) {
        addTile(row + (c << 2), factors, a + (c << 2), rowBytes, rank);
      }
      for (; c < right; c++) {
        for (let i: usize = 0; i < 4; i++) {
          addOne(row + i * rowBytes + (c << 2), factors + (i * rank << 2), a + (c << 2), rowBytes, rank);
        }
      }
    }
    for (; r < rows; r++) {
      const row = x + r * rowBytes, factors = b + (r * rank << 2);
      for (let c = left; c < right; c++) addOne(row + (c << 2), factors, a + (c << 2), rowBytes, rank);
    }
  }
}

/** Four rows of eight columns. */
// @ts-ignore: decorator
@inline
function addTile(x: usize, b: usize, a: usize, rowBytes: usize, rank: usize): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00;
  let s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const b1 = b + (rank << 2), b2 = b1 + (rank << 2), b3 = b2 + (rank << 2);
  let row = a;
  for (let k: usize = 0; k < rank << 2; k += 4) {
    const a0 = v128.load(row), a1 = v128.load(row, 16);
    const f0 = v128.load32_splat(b + k), f1 = v128.load32_splat(b1 + k);
    s00 = f32x4.add(s00, f32x4.mul(f0, a0));
    s01 = f32x4.add(s01, f32x4.mul(f0, a1));
    s10 = f32x4.add(s10, f32x4.mul(f1, a0));
    s11 = f32x4.add(s11, f32x4.mul(f1, a1));
    const f2 = v128.load32_splat(b2 + k), f3 = v128.load32_splat(b3 + k);
    s20 = f32x4.add(s20, f32x4.mul(f2, a0));
    s21 = f32x4.add(s21, f32x4.mul(f2, a1));
    s30 = f32x4.add(s30, f32x4.mul(f3, a0));
    s31 = f32x4.add(s31, f32x4.mul(f3, a1));
    row += rowBytes;
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

function addOne(x: usize, b: usize, a: usize, rowBytes: usize, rank: usize): void {
  let sum: f32 = 0;
  for (let k: usize = 0; k < rank; k++) sum += load<f32>(b + (k << 2)) * load<f32>(a + k * rowBytes);
  store<f32>(x, load<f32>(x) + sum);
}
