// gatherColumns: out[r, j] = x[r, order[j]], for numbers of 4 bytes.
//
// Layout: x and out [rows, cols], contiguous. An invocation makes an element; bits are copied. Class: exact.

struct Params {
  count: u32,
  cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> order: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let index = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (index >= params.count) {
    return;
  }
  let col = index % params.cols;
  out[index] = x[index - col + order[col]];
}
