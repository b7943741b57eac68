/**
 * gemmI8: out[i, j] = sum over k of a[i, k] * b[j, k], int8 times int8 into int32.
 *
 * Layout: a [m, k], b [n, k], out i32 [m, n], all row-major and contiguous. Any alignment. Tail rule:
 * rows, columns and the last terms beyond the matrices are packed as zeros; nothing beyond them is read
 * or written.
 * Exact for every int8 while k <= 131071: 128 * 128 * k stays below 2^31. Sums of integers do not depend
 * on their order, so any split over rows or columns gives the same. Class: exact.
 *
 * Codes are packed as pairs of i16: `i32x4.dot_i16x8_s` multiplies eight and adds them in pairs, twice the
 * work per instruction of a multiplication in f32. Tile: 4 rows by 8 columns, as in gemm.ts. The workspace
 * is that of gemm.ts, whose blocks are as large in bytes.
 */

/** Terms that are packed at once; even. */
const DEPTH: usize = 512;
const TILE_ROWS: usize = 4;
const TILE_COLS: usize = 8;
const BLOCK_ROWS: usize = 192;
const BLOCK_COLS: usize = 1024;

const EDGE_TILE_BYTES: usize = TILE_ROWS * TILE_COLS * 4;
const PACKED_A_BYTES: usize = BLOCK_ROWS * DEPTH * 2;

export function gemmI8(
  out: usize, a: usize, b: usize, m: usize, n: usize, k: usize, workspace: usize,
): void {
  if (k == 0) {
    memory.fill(out, 0, (m * n) << 2);
    return;
  }
  const packedA = workspace + EDGE_TILE_BYTES, packedB = packedA + PACKED_A_BYTES;
  for (let left: usize = 0; left < n; left += BLOCK_COLS) {
    const cols = min(BLOCK_COLS, n - left);
    for (let from: usize = 0; from < k; from += DEPTH) {
      const depth = min(DEPTH, k - from), pairs = (depth + 1) >> 1;
      for (let j: usize = 0; j < cols; j += TILE_COLS) {
        const strip = packedB + (j * pairs << 2), source = b + (left + j) * k + from;
        const count = cols - j;
        packPairs(strip, source, min<usize>(4, count), depth, k, 32);
        packPairs(
          strip + 16, source + 4 * k, count > 4 ? min<usize>(4, count - 4) : 0, depth, k, 32,
        );
      }
      for (let top: usize = 0; top < m; top += BLOCK_ROWS) {
        const rows = min(BLOCK_ROWS, m - top);
        for (let i: usize = 0; i < rows; i += TILE_ROWS) {
          const count = min<usize>(TILE_ROWS, rows - i);
          packPairs(packedA + (i * pairs << 2), a + (top + i) * k + from, count, depth, k, 16);
        }
        const corner = out + ((top * n + left) << 2);
        multiplyBlocks(corner, packedA, packedB, rows, cols, pairs, n << 2, from > 0, workspace);
      }
    }
  }
}

/**
 * Packs up to four rows of codes: step p of the strip holds, for each of the four lanes, the terms 2p and
 * 2p + 1 as i16.
 */
function packPairs(
  out: usize, source: usize, count: usize, depth: usize, rowBytes: usize, stepBytes: usize,
): void {
  let k: usize = 0;
  if (count == 4) {
    const s1 = source + rowBytes, s2 = s1 + rowBytes, s3 = s2 + rowBytes;
    for (; k + 8 <= depth; k += 8) {
      const a = v128.load_ext<i8>(source + k), b = v128.load_ext<i8>(s1 + k);
      const c = v128.load_ext<i8>(s2 + k), d = v128.load_ext<i8>(s3 + k);
      const ab01 = v128.shuffle<i32>(a, b, 0, 4, 1, 5), ab23 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
      const cd01 = v128.shuffle<i32>(c, d, 0, 4, 1, 5), cd23 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      v128.store(out, v128.shuffle<i32>(ab01, cd01, 0, 1, 4, 5));
      v128.store(out + stepBytes, v128.shuffle<i32>(ab01, cd01, 2, 3, 6, 7));
      v128.store(out + 2 * stepBytes, v128.shuffle<i32>(ab23, cd23, 0, 1, 4, 5));
      v128.store(out + 3 * stepBytes, v128.shuffle<i32>(ab23, cd23, 2, 3, 6, 7));
      out += 4 * stepBytes;
    }
  }
  for (; k < depth; k += 2) {
    for (let x: usize = 0; x < 4; x++) {
      const at = source + x * rowBytes + k;
      store<i16>(out + (x << 2), x < count ? <i16>load<i8>(at) : 0);
      store<i16>(out + (x << 2), x < count && k + 1 < depth ? <i16>load<i8>(at, 1) : 0, 2);
    }
    out += stepBytes;
  }
}

function multiplyBlocks(
  c: usize, packedA: usize, packedB: usize,
  rows: usize, cols: usize, pairs: usize, rowBytes: usize, add: bool, edge: usize,
): void {
  for (let j: usize = 0; j < cols; j += TILE_COLS) {
    const b = packedB + (j * pairs << 2);
    for (let i: usize = 0; i < rows; i += TILE_ROWS) {
      const a = packedA + (i * pairs << 2), at = c + i * rowBytes + (j << 2);
      if (i + TILE_ROWS <= rows && j + TILE_COLS <= cols) {
        multiplyTile(at, a, b, pairs, rowBytes, add);
      } else {
        multiplyTile(edge, a, b, pairs, TILE_COLS * 4, false);
        addEdge(at, edge, min(TILE_ROWS, rows - i), min(TILE_COLS, cols - j), rowBytes, add);
      }
    }
  }
}

function addEdge(
  c: usize, edge: usize, rows: usize, cols: usize, rowBytes: usize, add: bool,
): void {
  for (let i: usize = 0; i < rows; i++) {
    for (let j: usize = 0; j < cols; j++) {
      const at = c + i * rowBytes + (j << 2), sum = load<i32>(edge + ((i * TILE_COLS + j) << 2));
      store<i32>(at, add ? load<i32>(at) + sum : sum);
    }
  }
}

/** Four rows by eight columns; a function of its own for the reason given in gemm.ts. */
function multiplyTile(
  c: usize, a: usize, b: usize, pairs: usize, rowBytes: usize, add: bool,
): void {
  let s00 = i32x4.splat(0), s01 = i32x4.splat(0), s10 = i32x4.splat(0), s11 = i32x4.splat(0);
  let s20 = i32x4.splat(0), s21 = i32x4.splat(0), s30 = i32x4.splat(0), s31 = i32x4.splat(0);
  for (let p: usize = 0; p < pairs; p++) {
    const b0 = v128.load(b), b1 = v128.load(b, 16), four = v128.load(a);
    const a0 = v128.shuffle<i32>(four, four, 0, 0, 0, 0);
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(a0, b0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(a0, b1));
    const a1 = v128.shuffle<i32>(four, four, 1, 1, 1, 1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(a1, b0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(a1, b1));
    const a2 = v128.shuffle<i32>(four, four, 2, 2, 2, 2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(a2, b0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(a2, b1));
    const a3 = v128.shuffle<i32>(four, four, 3, 3, 3, 3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(a3, b0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(a3, b1));
    a += 16;
    b += 32;
  }
  const c1 = c + rowBytes, c2 = c1 + rowBytes, c3 = c2 + rowBytes;
  finishRow(c, s00, s01, add);
  finishRow(c1, s10, s11, add);
  finishRow(c2, s20, s21, add);
  finishRow(c3, s30, s31, add);
}

// @ts-ignore: decorator
@inline
function finishRow(c: usize, s0: v128, s1: v128, add: bool): void {
  v128.store(c, add ? i32x4.add(v128.load(c), s0) : s0);
  v128.store(c, add ? i32x4.add(v128.load(c, 16), s1) : s1, 16);
}
