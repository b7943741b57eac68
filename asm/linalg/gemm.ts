/**
 * gemm: C = A·B, C += A·B or C -= A·B, in f32, in f64, from f32 into f64, or into f64 with products in f32.
 *
 * Layout: C [m, n] row-major, cRow elements from row to row. A [m, k] and B [k, n] with any two strides,
 * in elements, so that a transposed matrix is the same matrix with its strides swapped. Any alignment.
 * C may not overlap A or B. Tail rule: rows and columns beyond the matrix are packed as zeros, their
 * results dropped; nothing beyond C is written.
 *
 * Every element of C is made in one order, whatever part of C a call covers, so that C can be split over
 * workers: for each run of DEPTH terms, from the first, `sum = 0; sum = sum + a * b` with a plain
 * multiplication and a plain addition, then C = sum (first run of "set") or C = C +- sum. gemmF64ByF32
 * rounds A and B to f32 first; it and gemmF32ToF64 make sums of SHORT_DEPTH terms in f32; C and what is
 * added to it are f64.
 * NaN and infinity spread as IEEE arithmetic has it. Class: exact.
 *
 * The workspace holds GEMM_WORKSPACE_BYTES: the packed A block (second-level cache), the packed B block,
 * and a tile for the edges. A register tile is 4 rows by two vectors: 8 sums, which with two vectors of
 * B, one of A and one product fill the 16 registers of x86 without spilling.
 */

import { packStrip } from "./pack";

/** Terms that are added up before they reach C. Part of the definition of the result. */
const DEPTH: usize = 256;
/** The same if C is of a wider type than the sums. */
const SHORT_DEPTH: usize = 64;
/** Rows of a register tile. */
const TILE_ROWS: usize = 4;
/** Bytes of a packed row of B: two vectors. */
const TILE_ROW_BYTES: usize = 32;
/** Columns of B that are packed at once. */
const BLOCK_COLS: usize = 1024;
/** Bytes of a column of the packed A block: 192 f32 or 96 f64. */
const BLOCK_ROW_BYTES: usize = 768;

const EDGE_TILE_BYTES: usize = TILE_ROWS * TILE_ROW_BYTES;
const PACKED_A_BYTES: usize = BLOCK_ROW_BYTES * DEPTH;

/** Bytes of workspace: edge tile, A block, B block of f64. */
export function gemmWorkspaceBytes(): usize {
  return EDGE_TILE_BYTES + PACKED_A_BYTES + BLOCK_COLS * DEPTH * sizeof<f64>();
}

const SET: i32 = 0;
const ADD: i32 = 1;

export function gemmF32(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  gemm<f32, f32, f32>(c, a, b, m, n, k, cRow, aRow, aCol, bRow, bCol, mode, workspace);
}

export function gemmF64(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  gemm<f64, f64, f64>(c, a, b, m, n, k, cRow, aRow, aCol, bRow, bCol, mode, workspace);
}

/** A and B in f32, products and sums and C in f64. */
export function gemmF32F64(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  gemm<f32, f64, f64>(c, a, b, m, n, k, cRow, aRow, aCol, bRow, bCol, mode, workspace);
}

/** A, B and C in f64, products and sums of a run in f32: twice as fast, for what need not be exact. */
export function gemmF64ByF32(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  gemm<f64, f32, f64>(c, a, b, m, n, k, cRow, aRow, aCol, bRow, bCol, mode, workspace);
}

/** A and B in f32, products and sums of a run in f32, C in f64. */
export function gemmF32ToF64(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  gemm<f32, f32, f64>(c, a, b, m, n, k, cRow, aRow, aCol, bRow, bCol, mode, workspace);
}

/** `S`: type of A and B; `T`: type of products and sums; `C`: type of C. */
function gemm<S, T, C>(
  c: usize, a: usize, b: usize,
  m: usize, n: usize, k: usize,
  cRow: usize, aRow: usize, aCol: usize, bRow: usize, bCol: usize,
  mode: i32, workspace: usize,
): void {
  if (k == 0) {
    if (mode == SET) clear<C>(c, m, n, cRow);
    return;
  }
  const packedA = workspace + EDGE_TILE_BYTES, packedB = packedA + PACKED_A_BYTES;
  const blockRows = BLOCK_ROW_BYTES / sizeof<T>();
  const run = sizeof<C>() > sizeof<T>() ? SHORT_DEPTH : DEPTH;
  for (let left: usize = 0; left < n; left += BLOCK_COLS) {
    const cols = min(BLOCK_COLS, n - left);
    for (let from: usize = 0; from < k; from += run) {
      const depth = min(run, k - from);
      packB<S, T>(packedB, b + (from * bRow + left * bCol) * sizeof<S>(), depth, cols, bRow, bCol);
      const step = from > 0 && mode == SET ? ADD : mode;
      for (let top: usize = 0; top < m; top += blockRows) {
        const rows = min(blockRows, m - top);
        packA<S, T>(packedA, a + (top * aRow + from * aCol) * sizeof<S>(), rows, depth, aRow, aCol);
        const corner = c + (top * cRow + left) * sizeof<C>();
        multiplyBlocks<T, C>(corner, packedA, packedB, rows, cols, depth, cRow, step, workspace);
      }
    }
  }
}

function clear<T>(c: usize, m: usize, n: usize, cRow: usize): void {
  for (let i: usize = 0; i < m; i++) memory.fill(c + i * cRow * sizeof<T>(), 0, n * sizeof<T>());
}

/** Strips of four rows, each [depth, 4]. */
function packA<S, T>(
  out: usize, a: usize, rows: usize, depth: usize, aRow: usize, aCol: usize,
): void {
  for (let i: usize = 0; i < rows; i += TILE_ROWS) {
    packStrip<S, T>(
      out + i * depth * sizeof<T>(), a + i * aRow * sizeof<S>(),
      min<usize>(TILE_ROWS, rows - i), depth, aRow, aCol, TILE_ROWS * sizeof<T>(),
    );
  }
}

/** Strips of two vectors of columns, each [depth, 8] in f32 or [depth, 4] in f64. */
function packB<S, T>(
  out: usize, b: usize, depth: usize, cols: usize, bRow: usize, bCol: usize,
): void {
  const tileCols = TILE_ROW_BYTES / sizeof<T>();
  for (let j: usize = 0; j < cols; j += tileCols) {
    const strip = out + j * depth * sizeof<T>();
    for (let half: usize = 0; half < tileCols; half += 4) {
      const at = j + half;
      packStrip<S, T>(
        strip + half * sizeof<T>(), b + at * bCol * sizeof<S>(),
        at < cols ? min<usize>(4, cols - at) : 0, depth, bCol, bRow, TILE_ROW_BYTES,
      );
    }
  }
}

/** One packed block of A times one of B: tile by tile, the strip of B staying in the first-level cache. */
function multiplyBlocks<T, C>(
  c: usize, packedA: usize, packedB: usize,
  rows: usize, cols: usize, depth: usize, cRow: usize, step: i32, edge: usize,
): void {
  const tileCols = TILE_ROW_BYTES / sizeof<T>(), rowBytes = cRow * sizeof<C>();
  for (let j: usize = 0; j < cols; j += tileCols) {
    const b = packedB + j * depth * sizeof<T>();
    for (let i: usize = 0; i < rows; i += TILE_ROWS) {
      const a = packedA + i * depth * sizeof<T>();
      const at = c + i * rowBytes + j * sizeof<C>();
      if (sizeof<C>() == sizeof<T>() && i + TILE_ROWS <= rows && j + tileCols <= cols) {
        multiplyTile<T>(at, a, b, depth, rowBytes, step);
      } else {
        multiplyTile<T>(edge, a, b, depth, TILE_ROW_BYTES, SET);
        addEdge<T, C>(at, edge, min(TILE_ROWS, rows - i), min(tileCols, cols - j), rowBytes, step);
      }
    }
  }
}

/** The part of a tile that lies in the matrix: what is left of four columns element by element. */
function addEdge<T, C>(
  c: usize, edge: usize, rows: usize, cols: usize, rowBytes: usize, step: i32,
): void {
  const whole: usize = sizeof<C>() > sizeof<T>() ? cols & ~3 : 0;
  for (let i: usize = 0; i < rows; i++) {
    const sums = edge + i * TILE_ROW_BYTES, row = c + i * rowBytes;
    for (let j: usize = 0; j < whole; j += 4) {
      const four = v128.load(sums + (j << 2)), at = row + (j << 3);
      finishRow<f64>(
        at, f64x2.promote_low_f32x4(four),
        f64x2.promote_low_f32x4(v128.shuffle<f64>(four, four, 1, 0)), step,
      );
    }
    for (let j = whole; j < cols; j++) {
      const at = row + j * sizeof<C>(), sum = <C>load<T>(sums + j * sizeof<T>());
      if (step == SET) store<C>(at, sum);
      else store<C>(at, <C>(step == ADD ? load<C>(at) + sum : load<C>(at) - sum));
    }
  }
}

/**
 * Four rows by two vectors. The four of A are loaded at once and spread by shuffles, which have an
 * execution port to themselves: engines without guard pages check the bounds of every load, so few loads
 * are worth more than few instructions. It stays a function of its own (it has two callers, so the
 * optimiser leaves it one): engines replace their slow first version of a function between calls, never
 * within one.
 */
function multiplyTile<T>(
  c: usize, a: usize, b: usize, depth: usize, rowBytes: usize, step: i32,
): void {
  let s00 = i64x2.splat(0), s01 = i64x2.splat(0), s10 = i64x2.splat(0), s11 = i64x2.splat(0);
  let s20 = i64x2.splat(0), s21 = i64x2.splat(0), s30 = i64x2.splat(0), s31 = i64x2.splat(0);
  for (let k: usize = 0; k < depth; k++) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    const low = v128.load(a), high = sizeof<T>() == 8 ? v128.load(a, 16) : low;
    const a0 = firstOf<T>(low);
    s00 = v128.add<T>(s00, v128.mul<T>(a0, b0));
    s01 = v128.add<T>(s01, v128.mul<T>(a0, b1));
    const a1 = secondOf<T>(low);
    s10 = v128.add<T>(s10, v128.mul<T>(a1, b0));
    s11 = v128.add<T>(s11, v128.mul<T>(a1, b1));
    const a2 = sizeof<T>() == 8 ? firstOf<T>(high) : v128.shuffle<f32>(low, low, 2, 2, 2, 2);
    s20 = v128.add<T>(s20, v128.mul<T>(a2, b0));
    s21 = v128.add<T>(s21, v128.mul<T>(a2, b1));
    const a3 = sizeof<T>() == 8 ? secondOf<T>(high) : v128.shuffle<f32>(low, low, 3, 3, 3, 3);
    s30 = v128.add<T>(s30, v128.mul<T>(a3, b0));
    s31 = v128.add<T>(s31, v128.mul<T>(a3, b1));
    a += 4 * sizeof<T>();
    b += 32;
  }
  const c1 = c + rowBytes, c2 = c1 + rowBytes, c3 = c2 + rowBytes;
  finishRow<T>(c, s00, s01, step);
  finishRow<T>(c1, s10, s11, step);
  finishRow<T>(c2, s20, s21, step);
  finishRow<T>(c3, s30, s31, step);
}

// @ts-ignore: decorator
@inline
function finishRow<T>(c: usize, s0: v128, s1: v128, step: i32): void {
  if (step == SET) {
    v128.store(c, s0);
    v128.store(c, s1, 16);
  } else if (step == ADD) {
    v128.store(c, v128.add<T>(v128.load(c), s0));
    v128.store(c, v128.add<T>(v128.load(c, 16), s1), 16);
  } else {
    v128.store(c, v128.sub<T>(v128.load(c), s0));
    v128.store(c, v128.sub<T>(v128.load(c, 16), s1), 16);
  }
}

/** The first lane of `a` in all lanes. */
// @ts-ignore: decorator
@inline
function firstOf<T>(a: v128): v128 {
  return sizeof<T>() == 8 ? v128.shuffle<f64>(a, a, 0, 0) : v128.shuffle<f32>(a, a, 0, 0, 0, 0);
}

/** The second lane of `a` in all lanes. */
// @ts-ignore: decorator
@inline
function secondOf<T>(a: v128): v128 {
  return sizeof<T>() == 8 ? v128.shuffle<f64>(a, a, 1, 1) : v128.shuffle<f32>(a, a, 1, 1, 1, 1);
}
