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

fn unitsAt(i: u32) -> i32 {
  return unitsOf(x[i], scaleAt(i));
}

fn setOf(group: u32) -> u32 {
  return bestSet(group * params.setCols, params.setCols, i32(params.candidates));
}
