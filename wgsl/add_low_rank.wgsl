// addLowRank: x[r, c] += sum over k of b[r, k] * a[k, c], for a small number of terms: the merge of a LoRA.
// Sums begin at 0, k ascending, and are added to x last, so what is rounded is the change, not the weight.
//
// Layout: x f32 [rows, cols] from element xStart on, b f32 [rows, rank], a f32 [rank, cols], contiguous
// row-major. A workgroup a tile of 64 x 64, an invocation 4 x 4 of it; 16 terms at a time lie in the memory
// of the workgroup.
// Tail: what is beyond the end is worked out as zeros and not written; terms beyond rank are left out.
// NaN and infinity spread as in f32.
// Class: exact but for subnormal numbers: `keep` (lib/exact.wgsl) keeps products from being fused with sums, and
// sums in their order.

struct Params {
  rows: u32,
  cols: u32,
  rank: u32,
  xStart: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;

const TILE = 64u;
const TERMS = 16u;
const STRIDE = 17u; // TILE / 4, and one so that neighbours write to different banks

var<workgroup> left: array<vec4f, 272>; // [TERMS, STRIDE], four rows of b side by side
var<workgroup> right: array<vec4f, 272>; // [TERMS, STRIDE], four columns of a

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let across = (params.cols + TILE - 1u) / TILE;
  let tile = workgroupIndex(workgroup, workgroups);
  let row = (tile / across) * TILE;
  let col = (tile % across) * TILE;
  if (row >= params.rows) {
    return;
  }
  let h = local % 16u;
  let v = local / 16u;
  var sums: array<vec4f, 4>;
  for (var first = 0u; first < params.rank; first += TERMS) {
    // Neighbours load neighbouring values: terms of a row of b, columns of a row of a.
    let term = first + h;
    let i = row + 4u * v;
    let l = vec4f(ofB(i, term), ofB(i + 1u, term), ofB(i + 2u, term), ofB(i + 3u, term));
    let j = col + 4u * h;
    let k = first + v;
    let r = vec4f(ofA(k, j), ofA(k, j + 1u), ofA(k, j + 2u), ofA(k, j + 3u));
    workgroupBarrier();
    left[h * STRIDE + v] = l;
    right[v * STRIDE + h] = r;
    workgroupBarrier();
    for (var k = 0u; k < min(TERMS, params.rank - first); k++) {
      let p = left[k * STRIDE + v];
      let q = right[k * STRIDE + h];
      sums[0] = keep(sums[0] + keep(p.x * q, params.zero), params.zero);
      sums[1] = keep(sums[1] + keep(p.y * q, params.zero), params.zero);
      sums[2] = keep(sums[2] + keep(p.z * q, params.zero), params.zero);
      sums[3] = keep(sums[3] + keep(p.w * q, params.zero), params.zero);
    }
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      let r = row + 4u * v + i;
      let c = col + 4u * h + j;
      if (r < params.rows && c < params.cols) {
        x[params.xStart + r * params.cols + c] += sums[i][j];
      }
    }
  }
}

// Elements of the factors, 0 beyond the end.
fn ofB(row: u32, term: u32) -> f32 {
  if (row >= params.rows || term >= params.rank) {
    return 0.0;
  }
  return b[row * params.rank + term];
}

fn ofA(term: u32, col: u32) -> f32 {
  if (term >= params.rank || col >= params.cols) {
    return 0.0;
  }
  return a[term * params.cols + col];
}
