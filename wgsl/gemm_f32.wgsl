// gemmF32: C = gain * A·B, or C += gain * A·B.
//
// Layout: C f32 [m, n] row-major from element cStart, cRow elements from row to row. A [m, k] and B [k, n]
// from aStart and bStart with any two strides, in elements, so that a transposed matrix is the same matrix
// with its strides swapped. A and B are stored as STORAGE says (lib/operand.wgsl), a constant
// that the host puts before this text; products and sums are f32. C may not share a buffer with A or B.
// Tail rule: what lies beyond the matrices counts as 0 and is not read; nothing beyond C is written.
//
// A workgroup makes a tile of 64 x 64 of C, an invocation 8 x 8 of it in registers: 64 products for 16
// numbers that it reads from the memory of the workgroup, which holds 16 columns of A and 16 rows of B.
//
// NaN and infinity spread if the device knows them. Class: close. Terms are added from the first to the
// last as in asm/linalg/gemm.ts, but not in runs, and products may be fused with sums, so that
// |C - exact| <= 2^-23 * (k + 2) * (|A|·|B| + |C|) for the numbers as they are stored.

struct Params {
  m: u32,
  n: u32,
  k: u32,
  cStart: u32,
  cRow: u32,
  aStart: u32,
  aRow: u32,
  aCol: u32,
  bStart: u32,
  bRow: u32,
  bCol: u32,
  addsToC: u32,
  gain: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;

const TILE = 64u;
const DEPTH = 16u;
// Vectors of a row of a tile, and one beside it: columns of it then lie in different banks.
const STRIDE = 17u;
const INVOCATIONS = 64u;

// Column k of the tile of A, row k of that of B.
var<workgroup> tileA: array<vec4f, DEPTH * STRIDE>;
var<workgroup> tileB: array<vec4f, DEPTH * STRIDE>;

fn elementA(row: u32, col: u32) -> f32 {
  if (row >= params.m || col >= params.k) {
    return 0.0;
  }
  let at = params.aStart + row * params.aRow + col * params.aCol;
  return elementOf(a[wordOf(at, STORAGE)], at, STORAGE);
}

fn elementB(row: u32, col: u32) -> f32 {
  if (row >= params.k || col >= params.n) {
    return 0.0;
  }
  let at = params.bStart + row * params.bRow + col * params.bCol;
  return elementOf(b[wordOf(at, STORAGE)], at, STORAGE);
}

// Neighbouring invocations read neighbouring elements, whichever way the matrix lies.
fn placeOf(index: u32, goesDown: bool) -> vec2u {
  if (goesDown) {
    return vec2u(index % DEPTH, index / DEPTH);
  }
  return vec2u(index / (TILE / 4u), index % (TILE / 4u));
}

fn finish(row: u32, col: u32, sum: vec4f) {
  if (row >= params.m) {
    return;
  }
  let at = params.cStart + row * params.cRow + col;
  for (var i = 0u; i < min(4u, max(col, params.n) - col); i++) {
    let value = sum[i] * params.gain;
    if (params.addsToC == 0u) {
      c[at + i] = value;
    } else {
      c[at + i] += value;
    }
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let tilesAcross = (params.n + TILE - 1u) / TILE;
  let tile = workgroupIndex(workgroup, workgroups);
  let top = (tile / tilesAcross) * TILE;
  let left = (tile % tilesAcross) * TILE;
  // Rows 4 y .. and 32 + 4 y .., columns 4 x .. and 32 + 4 x ..: what a read takes lies side by side.
  let y = local / 8u;
  let x = local % 8u;
  var c00 = vec4f(); var c01 = vec4f(); var c10 = vec4f(); var c11 = vec4f();
  var c20 = vec4f(); var c21 = vec4f(); var c30 = vec4f(); var c31 = vec4f();
  var c40 = vec4f(); var c41 = vec4f(); var c50 = vec4f(); var c51 = vec4f();
  var c60 = vec4f(); var c61 = vec4f(); var c70 = vec4f(); var c71 = vec4f();
  for (var depth = 0u; depth < params.k; depth += DEPTH) {
    for (var index = local; index < DEPTH * TILE / 4u; index += INVOCATIONS) {
      let inA = placeOf(index, params.aCol == 1u);
      let row = top + 4u * inA.y;
      let depthA = depth + inA.x;
      tileA[inA.x * STRIDE + inA.y] = vec4f(
        elementA(row, depthA), elementA(row + 1u, depthA),
        elementA(row + 2u, depthA), elementA(row + 3u, depthA),
      );
      let inB = placeOf(index, params.bCol != 1u);
      let col = left + 4u * inB.y;
      let depthB = depth + inB.x;
      tileB[inB.x * STRIDE + inB.y] = vec4f(
        elementB(depthB, col), elementB(depthB, col + 1u),
        elementB(depthB, col + 2u), elementB(depthB, col + 3u),
      );
    }
    workgroupBarrier();
    for (var d = 0u; d < DEPTH; d++) {
      let a0 = tileA[d * STRIDE + y];
      let a1 = tileA[d * STRIDE + 8u + y];
      let b0 = tileB[d * STRIDE + x];
      let b1 = tileB[d * STRIDE + 8u + x];
      c00 += a0.x * b0; c01 += a0.x * b1;
      c10 += a0.y * b0; c11 += a0.y * b1;
      c20 += a0.z * b0; c21 += a0.z * b1;
      c30 += a0.w * b0; c31 += a0.w * b1;
      c40 += a1.x * b0; c41 += a1.x * b1;
      c50 += a1.y * b0; c51 += a1.y * b1;
      c60 += a1.z * b0; c61 += a1.z * b1;
      c70 += a1.w * b0; c71 += a1.w * b1;
    }
    workgroupBarrier();
  }
  let row = top + 4u * y;
  let col = left + 4u * x;
  finish(row, col, c00); finish(row, col + 32u, c01);
  finish(row + 1u, col, c10); finish(row + 1u, col + 32u, c11);
  finish(row + 2u, col, c20); finish(row + 2u, col + 32u, c21);
  finish(row + 3u, col, c30); finish(row + 3u, col + 32u, c31);
  finish(row + 32u, col, c40); finish(row + 32u, col + 32u, c41);
  finish(row + 33u, col, c50); finish(row + 33u, col + 32u, c51);
  finish(row + 34u, col, c60); finish(row + 34u, col + 32u, c61);
  finish(row + 35u, col, c70); finish(row + 35u, col + 32u, c71);
}
