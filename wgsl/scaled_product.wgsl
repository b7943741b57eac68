// The second half of an int8 product: out[i, j] (+)= f32(sums[i, j]) * xScales[i] * wScales[j, group], for
// weights with one scale or several along a row; the scale of row j is wScales[(j / groupRows) * across +
// group]. The first group sets, the others add, from left to right. src/quant/int8_ops.ts is its twin.
//
// Layout: sums i32 and out f32 [m, n], xScales f32 [m], wScales f32 [n / groupRows, across]. One invocation a
// value. NaN and infinity spread as in f32.
// Class: exact but for subnormal numbers, if the device rounds integers to the nearest f32, as all do: products
// are kept in their order and from being fused with the sum.

struct Params {
  count: u32,
  n: u32,
  across: u32,
  groupRows: u32,
  group: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<storage, read> sums: array<i32>;
@group(0) @binding(3) var<storage, read> xScales: array<f32>;
@group(0) @binding(4) var<storage, read> wScales: array<f32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let at = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (at >= params.count) {
    return;
  }
  let scale = wScales[((at % params.n) / params.groupRows) * params.across + params.group];
  let scaled = keepOne(f32(sums[at]) * xScales[at / params.n], params.zero);
  let value = keepOne(scaled * scale, params.zero);
  if (params.group == 0u) {
    result[at] = value;
  } else {
    result[at] += value;
  }
}
