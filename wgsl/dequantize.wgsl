// dequantize: out = f32(code) * scale, the scale that of the value's group.
//
// Layout: codes i8, four in a word; scales f32 [rows / groupRows, cols / groupCols]; out f32 [rows, cols]
// row-major. One invocation a value.
// Class: exact. Values that may be subnormal, or beyond f32, are worked out in integers.

struct Params {
  count: u32,
  cols: u32,
  groupRows: u32,
  groupCols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let i = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (i >= params.count) {
    return;
  }
  let across = params.cols / params.groupCols;
  let group = (i / params.cols / params.groupRows) * across + (i % params.cols) / params.groupCols;
  let code = extractBits(bitcast<i32>(codes[i / 4u]), 8u * (i % 4u), 8u);
  let scale = scales[group];
  let field = scale & INFINITE;
  if (field == INFINITE || field > (16u << 23u)) {
    result[i] = bitcast<u32>(f32(code) * bitcast<f32>(scale));
  } else {
    result[i] = multiply(bitcast<u32>(f32(code)), scale);
  }
}
