/**
 * hadamardRows, hadamardColumns, in f32 and f64: every row, or column, of a matrix times the Sylvester
 * Hadamard matrix of its length, and then times `norm` (1 / sqrt(length) makes it orthogonal, and its own
 * inverse). The transform of QuIP (Chee et al., 2023; as in QuIP#, Tseng et al., 2024).
 *
 * The fast Walsh-Hadamard transform: for strides 1, 2, 4 .. length / 2, pairs (a, b) that are a stride
 * apart become (a + b, a - b); at last all are multiplied by norm. Two stages are done at once, with the
 * same additions.
 *
 * Layout: x [rows, cols] row-major in place, xRow elements from row to row. The length, a power of 2, is
 * cols (or rows). Any alignment. Rows (or columns) are independent: any split gives the same. NaN and
 * infinity spread over their row (or column). Class: exact.
 */

export function hadamardRowsF32(x: usize, rows: usize, cols: usize, xRow: usize, norm: f64): void {
  for (let r: usize = 0; r < rows; r++) transformRun<f32>(x + (r * xRow << 2), cols, <f32>norm);
}

export function hadamardRowsF64(x: usize, rows: usize, cols: usize, xRow: usize, norm: f64): void {
  for (let r: usize = 0; r < rows; r++) transformRun<f64>(x + (r * xRow << 3), cols, norm);
}

export function hadamardColumnsF32(x: usize, rows: usize, cols: usize, xRow: usize, norm: f64): void {
  transformColumns<f32>(x, rows, cols, xRow, <f32>norm);
}

export function hadamardColumnsF64(x: usize, rows: usize, cols: usize, xRow: usize, norm: f64): void {
  transformColumns<f64>(x, rows, cols, xRow, norm);
}

/** Bytes of a strip of columns that go through all stages together: one cache line of every row. */
const STRIP_BYTES: usize = 64;

function transformColumns<T>(x: usize, rows: usize, cols: usize, xRow: usize, norm: T): void {
  const rowBytes = xRow * sizeof<T>(), strip = STRIP_BYTES / sizeof<T>();
  for (let left: usize = 0; left < cols; left += strip) {
    transformStrip<T>(x + left * sizeof<T>(), rows, min(strip, cols - left), rowBytes, norm);
  }
}

function transformStrip<T>(x: usize, rows: usize, width: usize, rowBytes: usize, norm: T): void {
  let stride: usize = 1;
  for (; stride << 2 <= rows; stride <<= 2) {
    for (let top: usize = 0; top < rows; top += stride << 2) {
      for (let i: usize = 0; i < stride; i++) {
        quads<T>(x + (top + i) * rowBytes, stride * rowBytes, width);
      }
    }
  }
  if (stride < rows) {
    for (let i: usize = 0; i < stride; i++) pairs<T>(x + i * rowBytes, stride * rowBytes, width);
  }
  for (let r: usize = 0; r < rows; r++) multiply<T>(x + r * rowBytes, width, norm);
}

function transformRun<T>(x: usize, n: usize, norm: T): void {
  let stride: usize = 1;
  if (n >= 4) {
    for (let i: usize = 0; i < n; i += 4) neighbours<T>(x + i * sizeof<T>());
    stride = 4;
  }
  for (; stride << 2 <= n; stride <<= 2) {
    const apart = stride * sizeof<T>();
    for (let first: usize = 0; first < n; first += stride << 2) {
      quads<T>(x + first * sizeof<T>(), apart, stride);
    }
  }
  if (stride < n) pairs<T>(x, stride * sizeof<T>(), stride);
  multiply<T>(x, n, norm);
}

/** The stages of strides 1 and 2 of four neighbours. */
// @ts-ignore: decorator
@inline
function neighbours<T>(p: usize): void {
  fourApart<T>(p, p + sizeof<T>(), p + 2 * sizeof<T>(), p + 3 * sizeof<T>());
}

/** Two stages of `count` values each at p, p + apart, p + 2 apart, p + 3 apart (bytes). */
function quads<T>(p: usize, apart: usize, count: usize): void {
  const p1 = p + apart, p2 = p1 + apart, p3 = p2 + apart, bytes = count * sizeof<T>();
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const a = v128.load(p + at), b = v128.load(p1 + at);
    const c = v128.load(p2 + at), d = v128.load(p3 + at);
    const s = v128.add<T>(a, b), t = v128.sub<T>(a, b);
    const u = v128.add<T>(c, d), v = v128.sub<T>(c, d);
    v128.store(p + at, v128.add<T>(s, u));
    v128.store(p1 + at, v128.add<T>(t, v));
    v128.store(p2 + at, v128.sub<T>(s, u));
    v128.store(p3 + at, v128.sub<T>(t, v));
  }
  for (; at < bytes; at += sizeof<T>()) fourApart<T>(p + at, p1 + at, p2 + at, p3 + at);
}

// @ts-ignore: decorator
@inline
function fourApart<T>(p: usize, p1: usize, p2: usize, p3: usize): void {
  const a = load<T>(p), b = load<T>(p1), c = load<T>(p2), d = load<T>(p3);
  const s: T = a + b, t: T = a - b, u: T = c + d, v: T = c - d;
  store<T>(p, s + u);
  store<T>(p1, t + v);
  store<T>(p2, s - u);
  store<T>(p3, t - v);
}

/** One stage of `count` values each at p and p + apart (bytes). */
function pairs<T>(p: usize, apart: usize, count: usize): void {
  const p1 = p + apart, bytes = count * sizeof<T>();
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const a = v128.load(p + at), b = v128.load(p1 + at);
    v128.store(p + at, v128.add<T>(a, b));
    v128.store(p1 + at, v128.sub<T>(a, b));
  }
  for (; at < bytes; at += sizeof<T>()) {
    const a = load<T>(p + at), b = load<T>(p1 + at);
    store<T>(p + at, a + b);
    store<T>(p1 + at, a - b);
  }
}

function multiply<T>(p: usize, count: usize, norm: T): void {
  const factor = v128.splat<T>(norm), bytes = count * sizeof<T>();
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(p + at, v128.mul<T>(v128.load(p + at), factor));
  for (; at < bytes; at += sizeof<T>()) store<T>(p + at, load<T>(p + at) * norm);
}
