// feedBack: c[r, j] (+)= f32(sum over k of p[r, k] * q[k, j]) * lScale[j] * eScale[r], of packed 16-bit integers:
// the merge of a LoRA.
//
// Layout: c f32 [rows, cols] from element cStart on, cRow from row to row. Pairs of terms, the even one in the low
// half of a word: errors in strips of 4 rows, each [pairs, 4]; factor in strips of 8 columns, each [pairs, 8]
// (asm/linalg/feed_back_i16.ts). Rows beyond `rows` are not written; cols is a multiple of 8. A workgroup a tile of
// 64 x 64, an invocation 4 x 4 of it.
// NaN and infinity of scales spread as in f32.
// Class: exact but for subnormal numbers: sums are of integers below 2^31, their conversion rounds once, as the sum
// of two parts that f32 holds, and `keep` (lib/exact.wgsl) keeps products from being fused with sums.

struct Params {
  rows: u32,
  cols: u32,
  pairs: u32,
  cStart: u32,
  cRow: u32,
  add: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@group(0) @binding(2) var<storage, read> e: array<i32>;
@group(0) @binding(3) var<storage, read> eScales: array<f32>;
@group(0) @binding(4) var<storage, read> l: array<i32>;
@group(0) @binding(5) var<storage, read> lScales: array<f32>;

const TILE = 64u;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let across = (params.cols + TILE - 1u) / TILE;
  let tile = workgroupIndex(workgroup, workgroups);
  let row = (tile / across) * TILE + 4u * (local / 16u);
  let col = (tile % across) * TILE + 4u * (local % 16u);
  if (row >= params.rows || col >= params.cols) {
    return;
  }
  let left = row * params.pairs;
  let right = (col & ~7u) * params.pairs + (col & 4u);
  var sums: array<vec4i, 4>;
  for (var p = 0u; p < params.pairs; p++) {
    let i = left + 4u * p;
    let j = right + 8u * p;
    let q = vec4i(l[j], l[j + 1u], l[j + 2u], l[j + 3u]);
    let low = (q << vec4u(16u)) >> vec4u(16u);
    let high = q >> vec4u(16u);
    sums[0] += lowOf(e[i]) * low + highOf(e[i]) * high;
    sums[1] += lowOf(e[i + 1u]) * low + highOf(e[i + 1u]) * high;
    sums[2] += lowOf(e[i + 2u]) * low + highOf(e[i + 2u]) * high;
    sums[3] += lowOf(e[i + 3u]) * low + highOf(e[i + 3u]) * high;
  }
  let by = vec4f(lScales[col], lScales[col + 1u], lScales[col + 2u], lScales[col + 3u]);
  for (var i = 0u; i < min(4u, params.rows - row); i++) {
    let sum = floatsOf(sums[i]);
    let scaled = keep(sum * by, params.zero);
    let change = keep(scaled * eScales[row + i], params.zero);
    let at = params.cStart + (row + i) * params.cRow + col;
    for (var j = 0u; j < 4u; j++) {
      if (params.add != 0u) {
        c[at + j] += change[j];
      } else {
        c[at + j] = change[j];
      }
    }
  }
}

fn lowOf(pair: i32) -> i32 {
  return (pair << 16u) >> 16u;
}

fn highOf(pair: i32) -> i32 {
  return pair >> 16u;
}

// The nearest f32: a device may convert integers to another one.
fn floatsOf(sums: vec4i) -> vec4f {
  return vec4f(sums >> vec4u(12u)) * 4096.0 + vec4f(sums & vec4i(0xfff));
}
