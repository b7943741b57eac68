// The second half of descendRows, for losses that look at all rows:
// sums[j, k] += sum over r of moves[r, j] * factors[r, k], over the codes that moved, r ascending.
//
// Layout: sums f32, row j from sumsStart + j * sumsRow on, rank values; factors f32, row r from
// factorsStart + r * factorsRow on; report as descend_rows.wgsl leaves it. A workgroup takes 64 values of a
// row of sums.
// Class: exact but for subnormal numbers: every value has its terms added one after the other, and products are
// kept from being fused with sums.

struct Params {
  rows: u32,
  cols: u32,
  rank: u32,
  sumsStart: u32,
  sumsRow: u32,
  factorsStart: u32,
  factorsRow: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read> report: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let across = (params.rank + 63u) / 64u;
  let index = workgroupIndex(workgroup, workgroups);
  let j = index / across;
  let k = (index % across) * 64u + local;
  if (j >= params.cols || k >= params.rank) {
    return;
  }
  let at = params.sumsStart + j * params.sumsRow + k;
  var sum = sums[at];
  for (var r = 0u; r < params.rows; r++) {
    let d = report[4u * params.rows + r * params.cols + j];
    if (d != 0.0) {
      let term = keepOne(d * factors[params.factorsStart + r * params.factorsRow + k], params.zero);
      sum = keepOne(sum + term, params.zero);
    }
  }
  sums[at] = sum;
}
