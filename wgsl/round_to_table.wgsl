// roundToTable: of some sets of at most 16 levels the one that suits each group of columns, and the levels of it.
// Tables, candidates, errors and levels are those of asm/round_to_table.ts: integers, whose sum is the same in
// any order.
//
// Layout: x f32 and codes i8 [rows, cols], scales f32 [rows / groupRows, cols / groupCols], choices u8
// [rows, cols / setCols], steps i8 [sets, 48], first u8 [128]; bytes are four in a word, the last word of choices
// is filled with 0. One invocation a word of choices: four groups, one after the other.
// Class: exact.

struct Params {
  groups: u32,
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  setCols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> choices: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read> steps: array<u32>;
@group(0) @binding(6) var<storage, read> first: array<u32>;

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
    packed |= roundGroup(word * 4u + k) << (8u * k);
  }
  choices[word] = packed;
}

// Rounds a group; returns its set.
fn roundGroup(group: u32) -> u32 {
  let begin = group * params.setCols;
  let scale = scaleAt(begin);
  var most = 0;
  for (var i = begin; i < begin + params.setCols; i++) {
    most = max(most, abs(magnitudeOf(unitsOf(x[i], scale))));
  }
  let bin = u32(most);
  let start = i32(byteOf(first[bin >> 2u], bin));
  var least = 0u;
  var best = -1;
  for (var k = 0; k < 4; k++) {
    let chosen = max(0, start - k);
    var sum = 0u;
    for (var i = begin; i < begin + params.setCols; i++) {
      let error = errorOf(u32(chosen), unitsOf(x[i], scale));
      sum += min(4095u, u32(error * error));
    }
    if (best < 0 || sum < least) {
      least = sum;
      best = chosen;
    }
  }
  for (var i = begin; i < begin + params.setCols; i += 4u) {
    var packed = 0u;
    for (var k = 0u; k < 4u; k++) {
      let level = levelOf(u32(best), unitsOf(x[i + k], scale));
      packed |= (u32(level) & 0xffu) << (8u * k);
    }
    codes[i >> 2u] = packed;
  }
  return u32(best);
}

fn scaleAt(at: u32) -> u32 {
  let across = params.cols / params.groupCols;
  let row = at / params.cols;
  return scales[(row / params.groupRows) * across + (at % params.cols) / params.groupCols];
}

// A value in units as whole steps.
fn magnitudeOf(units: i32) -> i32 {
  return clamp((units + 16) >> 5u, -127, 127);
}

fn stepAt(at: u32) -> i32 {
  return extractBits(i32(steps[at >> 2u]), (at & 3u) * 8u, 8u);
}

// How many middles of a set lie below c.
fn middlesBelow(table: u32, c: i32) -> u32 {
  var at = 1u;
  for (var k = 0u; k < 4u; k++) {
    at = 2u * at + select(0u, 1u, c > stepAt(table + at));
  }
  return at - 16u;
}

fn errorOf(chosen: u32, units: i32) -> i32 {
  let table = chosen * 48u;
  let c = magnitudeOf(units);
  return c - stepAt(table + 16u + middlesBelow(table, c));
}

// The level of set `chosen` that is nearest to a value in units.
fn levelOf(chosen: u32, units: i32) -> i32 {
  let table = chosen * 48u;
  let c = clamp((units + 15) >> 5u, -127, 127);
  var at = middlesBelow(table, c);
  let isAbove = (((units + 15) >> 4u) & 1) == 1;
  if (isAbove && stepAt(table + 32u + at) == c) {
    at += 1u;
  }
  return stepAt(table + 16u + at);
}
