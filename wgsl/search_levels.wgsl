// searchLevels: of some sets of levels the one with the least squared error in a group of columns. Candidates and
// errors are those of asm/search_levels.ts: integers, whose sum is the same in any order.
//
// Layout as in quantize_levels.wgsl; first u8 [256], four in a word; choices u8, four in a word, the last word
// filled with 0. One invocation a word: four groups, one after the other.
// Class: exact.

struct Params {
  groups: u32,
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  setCols: u32,
  candidates: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> choices: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> nearest: array<u32>;
@group(0) @binding(5) var<storage, read> first: array<u32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 64u + local;
  if (word * 4u >= params.groups) {
    return;
  }
  var packed = 0u;
  for (var k = 0u; k < min(4u, params.groups - word * 4u); k++) {
    packed |= bestOf(word * 4u + k) << (8u * k);
  }
  choices[word] = packed;
}

fn scaleAt(at: u32) -> u32 {
  let across = params.cols / params.groupCols;
  let row = at / params.cols;
  return scales[(row / params.groupRows) * across + (at % params.cols) / params.groupCols];
}

// The set of a group.
fn bestOf(group: u32) -> u32 {
  let begin = group * params.setCols;
  let end = begin + params.setCols;
  var most = 0;
  for (var i = begin; i < end; i++) {
    most = max(most, abs(unitsOf(x[i], scaleAt(i))));
  }
  let bin = u32(most) >> 5u;
  let start = i32(byteOf(first[bin >> 2u], bin));
  var least = 0u;
  var best = -1;
  for (var k = 0; k < i32(params.candidates); k++) {
    let chosen = max(0, start - k);
    var sum = 0u;
    for (var i = begin; i < end; i++) {
      let units = unitsOf(x[i], scaleAt(i));
      let error = units - 32 * levelOf(u32(chosen), units);
      sum += u32(error * error);
    }
    if (best < 0 || sum < least) {
      least = sum;
      best = chosen;
    }
  }
  return u32(best);
}
