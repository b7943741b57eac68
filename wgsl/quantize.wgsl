// quantize: code = clamp(roundHalfEven(x / scale), -127, 127), the scale that of the value's group.
//
// Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols]; codes i8, four in
// a word, the first in the low byte, the last word filled with 0. One invocation a word.
// NaN (also 0 / 0 and inf / inf): code 0. Infinity: +-127.
// Class: exact. Quotients are worked out as integers: rounded to f32 first, then to a code, as a true
// f32 division does it.

struct Params {
  count: u32,
  cols: u32,
  groupRows: u32,
  groupCols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 256u + local;
  let first = word * 4u;
  if (first >= params.count) {
    return;
  }
  let across = params.cols / params.groupCols;
  var packed = 0u;
  for (var k = 0u; k < min(4u, params.count - first); k++) {
    let i = first + k;
    let group = (i / params.cols / params.groupRows) * across + (i % params.cols) / params.groupCols;
    packed |= (u32(codeOf(x[i], scales[group])) & 0xffu) << (8u * k);
  }
  codes[word] = packed;
}
