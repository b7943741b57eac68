// countNonFinite: found[0] += how many values are NaN or infinite, found[1] = min(found[1], first index).
//
// Layout: x f32 [count]; found u32 [2], which begins as 0 and 0xffffffff. One invocation a value.
// Class: exact.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> found: array<atomic<u32>, 2>;
@group(0) @binding(2) var<storage, read> x: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let i = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (i < params.count && !isFinite(x[i])) {
    atomicAdd(&found[0], 1u);
    atomicMin(&found[1], i);
  }
}
