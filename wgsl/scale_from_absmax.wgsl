// scaleFromAbsmax: scale = absmax / most, but at least 1e-30 (in f32), with a true division.
//
// Layout: f32 [count], in place. NaN gives 1e-30, infinity stays infinite. One invocation a scale.
// Class: exact. (Everything whose quotient could be subnormal is below 1e-30.)

struct Params {
  count: u32,
  most: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scales: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let i = workgroupIndex(workgroup, workgroups) * 64u + local;
  if (i >= params.count) {
    return;
  }
  let bits = bitcast<u32>(scales[i]);
  if (bits == INFINITE) {
    return;
  }
  // Negative numbers, zero and NaN too: what is not above the least scale becomes it.
  if (bits > INFINITE || bits == 0u) {
    scales[i] = 1e-30;
    return;
  }
  let scale = divide(scales[i], params.most);
  scales[i] = select(1e-30, scale, scale > 1e-30);
}
