// rotate for groups of up to 1024 values: all stages of a run in the memory of one workgroup. The stages
// and their order are those of rotate.wgsl; values are read and written once instead of once a stage.
//
// Layout: x f32 [groups, groupSize] in place, groupSize a power of 4 from 4 to 1024. A workgroup takes
// 1024 values, of one group or several.
// Class: exact but for subnormal numbers.

struct Params {
  count: u32,
  groupSize: u32,
  // 0; see `keep`.
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

var<workgroup> values: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let first = workgroupIndex(workgroup, workgroups) * 1024u;
  for (var k = local; k < 1024u; k += 256u) {
    if (first + k < params.count) {
      values[k] = x[first + k];
    }
  }
  for (var s = params.groupSize / 4u; s > 0u; s /= 4u) {
    workgroupBarrier();
    let i = (local / s) * 4u * s + local % s;
    let a = values[i];
    let b = values[i + s];
    let c = values[i + 2u * s];
    let d = values[i + 3u * s];
    // As in rotate.wgsl.
    let pairs = keep(vec4f(a + d, b + c, 0.0, 0.0), params.zero);
    let h = keep(vec4f((pairs.x + pairs.y) * 0.5), params.zero).x;
    values[i] = h - d;
    values[i + s] = h - c;
    values[i + 2u * s] = h - b;
    values[i + 3u * s] = h - a;
  }
  workgroupBarrier();
  for (var k = local; k < 1024u; k += 256u) {
    if (first + k < params.count) {
      x[first + k] = values[k];
    }
  }
}
