// gatherCodes: out[r, j] = x[r, order[j]], for codes, four in a word.
//
// Layout: x and out i8 [rows, cols], rows `words` words apart, the last one of a row filled with 0. An
// invocation makes a word. Class: exact.

struct Params {
  rows: u32,
  cols: u32,
  words: u32,
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
  let row = index / params.words;
  if (row >= params.rows) {
    return;
  }
  let first = 4u * (index % params.words);
  var packed = 0u;
  for (var k = 0u; k < min(4u, params.cols - first); k++) {
    let col = order[first + k];
    let code = (x[row * params.words + col / 4u] >> (8u * (col % 4u))) & 0xffu;
    packed |= code << (8u * k);
  }
  out[index] = packed;
}
