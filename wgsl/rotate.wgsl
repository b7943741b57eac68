// rotate: every run of `groupSize` values times the normalised regular Hadamard matrix of that size.
//
// log4(groupSize) radix-4 stages of strides groupSize / 4, ..., 4, 1 (see asm/rotate.ts, which says why).
// A stage takes four values a, b, c, d one stride apart to
//
//     h = ((a + d) + (b + c)) * 0.5;   h - d, h - c, h - b, h - a
//
// in this order, which `keep` (lib/exact.wgsl) holds a compiler to: WGSL allows sums to be reassociated.
//
// Layout: x f32 [count] in place; a dispatch is one stage, an invocation four values.
// NaN and infinity spread over their run. Class: exact but for subnormal numbers.

struct Params {
  quads: u32,
  stride: u32,
  // 0; see `keep`.
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let quad = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (quad >= params.quads) {
    return;
  }
  let s = params.stride;
  let i = (quad / s) * 4u * s + quad % s;
  let a = x[i];
  let b = x[i + s];
  let c = x[i + 2u * s];
  let d = x[i + 3u * s];
  // Kept apart: a compiler may reorder a sum, and cancel what it can see through.
  let pairs = keep(vec4f(a + d, b + c, 0.0, 0.0), params.zero);
  let h = keep(vec4f((pairs.x + pairs.y) * 0.5), params.zero).x;
  x[i] = h - d;
  x[i + s] = h - c;
  x[i + 2u * s] = h - b;
  x[i + 3u * s] = h - a;
}
