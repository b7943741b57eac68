/**
 * rotateRowsF64, rotateColumnsF64: groups of values along the rows, or down the columns, of an f64 matrix
 * times the normalised regular Hadamard matrix; the rotation of `asm/rotate.ts`, same stages, same order
 * of additions, in f64. Both together turn H into RᵀHR.
 *
 * Layout: x [rows, cols] row-major in place, xRow elements from row to row. groupSize, a power of 4,
 * divides cols (or rows). Any alignment. Rows (or columns) are independent: any split gives the same.
 * NaN and infinity spread over their group. Class: exact.
 */

/** Columns that are taken through all stages together: 64 KiB for groups of 256. */
const STRIP_COLS: usize = 32;

export function rotateRowsF64(x: usize, rows: usize, cols: usize, xRow: usize, groupSize: usize): void {
  for (let r: usize = 0; r < rows; r++) {
    const row = x + (r * xRow << 3);
    for (let at: usize = 0; at < cols; at += groupSize) rotateRun(row + (at << 3), groupSize);
  }
}

function rotateRun(x: usize, size: usize): void {
  for (let stride = size >> 2; stride > 1; stride >>= 2) {
    for (let block: usize = 0; block < size; block += stride << 2) {
      butterflies(x + (block << 3), stride << 3, stride);
    }
  }
  if (size > 1) {
    for (let i: usize = 0; i < size; i += 4) butterfly(x + (i << 3));
  }
}

export function rotateColumnsF64(
  x: usize, rows: usize, cols: usize, xRow: usize, groupSize: usize,
): void {
  for (let left: usize = 0; left < cols; left += STRIP_COLS) {
    const width = min(STRIP_COLS, cols - left);
    for (let top: usize = 0; top < rows; top += groupSize) {
      rotateStrip(x + ((top * xRow + left) << 3), groupSize, width, xRow << 3);
    }
  }
}

function rotateStrip(x: usize, size: usize, width: usize, rowBytes: usize): void {
  for (let stride = size >> 2; stride > 0; stride >>= 2) {
    for (let block: usize = 0; block < size; block += stride << 2) {
      for (let i: usize = 0; i < stride; i++) {
        butterflies(x + (block + i) * rowBytes, stride * rowBytes, width);
      }
    }
  }
}

/** `count` values each at p, p + apart, p + 2 apart, p + 3 apart (bytes), times H4 / 2. */
function butterflies(p: usize, apart: usize, count: usize): void {
  const p1 = p + apart, p2 = p1 + apart, p3 = p2 + apart;
  const half = f64x2.splat(0.5);
  let i: usize = 0;
  for (; i + 2 <= count; i += 2) {
    const at = i << 3;
    const a = v128.load(p + at), b = v128.load(p1 + at);
    const c = v128.load(p2 + at), d = v128.load(p3 + at);
    const h = f64x2.mul(f64x2.add(f64x2.add(a, d), f64x2.add(b, c)), half);
    v128.store(p + at, f64x2.sub(h, d));
    v128.store(p1 + at, f64x2.sub(h, c));
    v128.store(p2 + at, f64x2.sub(h, b));
    v128.store(p3 + at, f64x2.sub(h, a));
  }
  if (i < count) fourApart(p + (i << 3), p1 + (i << 3), p2 + (i << 3), p3 + (i << 3));
}

function butterfly(p: usize): void {
  fourApart(p, p + 8, p + 16, p + 24);
}

// @ts-ignore: decorator
@inline
function fourApart(p: usize, p1: usize, p2: usize, p3: usize): void {
  const a = load<f64>(p), b = load<f64>(p1), c = load<f64>(p2), d = load<f64>(p3);
  const h = ((a + d) + (b + c)) * 0.5;
  store<f64>(p, h - d);
  store<f64>(p1, h - c);
  store<f64>(p2, h - b);
  store<f64>(p3, h - a);
}
