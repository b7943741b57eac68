// absmax: out[g] = max |x| over group g of groupRows x groupCols values; NaN is ignored.
//
// Layout: x f32 [rows, cols] row-major, out f32 [rows / groupRows, cols / groupCols]. A workgroup a group.
// Magnitudes of floats are ordered like their bits, so that the maximum is one of integers.
// Class: exact.

struct Params {
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;

var<workgroup> largest: array<u32, 256>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let group = workgroupIndex(workgroup, workgroups);
  if (group >= params.groups) {
    return;
  }
  let across = params.cols / params.groupCols;
  let start = (group / across) * params.groupRows * params.cols +
    (group % across) * params.groupCols;
  let size = params.groupRows * params.groupCols;
  var most = 0u;
  for (var i = local; i < size; i += 256u) {
    let bits = x[start + (i / params.groupCols) * params.cols + i % params.groupCols] & MAGNITUDE;
    if (bits <= INFINITE) {
      most = max(most, bits);
    }
  }
  largest[local] = most;
  for (var half = 128u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) {
      largest[local] = max(largest[local], largest[local + half]);
    }
  }
  if (local == 0u) {
    result[group] = largest[0];
  }
}
