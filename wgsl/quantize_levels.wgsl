// quantizeLevels: the level nearest to x / scale, of the set of levels that the group of the value has. Formula
// and tables are those of asm/quantize_levels.ts.
//
// Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], choices u8
// [rows, cols / setCols] and nearest i8 [sets, 512], four in a word; codes i8, four in a word, the first in the
// low byte. One invocation a word; columns are a multiple of 16.
// NaN (also 0 / 0 and inf / inf): as 0. Infinity: the outermost level.
// Class: exact. Quotients are worked out as integers, rounded to f32 first, then to units.

struct Params {
  count: u32,
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  setCols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> choices: array<u32>;
@group(0) @binding(5) var<storage, read> nearest: array<u32>;

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
  let row = first / params.cols;
  let col = first % params.cols;
  let scale = scales[(row / params.groupRows) * across + col / params.groupCols];
  let group = first / params.setCols;
  let chosen = byteOf(choices[group >> 2u], group);
  var packed = 0u;
  for (var k = 0u; k < 4u; k++) {
    packed |= (u32(levelOf(chosen, unitsOf(x[first + k], scale))) & 0xffu) << (8u * k);
  }
  codes[word] = packed;
}
