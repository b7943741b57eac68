// chooseLevels: the sets of groups of columns, when a block of columns is reached: searchLevels of their weights
// and what is fed back into them.
//
// Layout: weights and feedback f32 [rows, width] from elements weightsStart and feedbackStart on, weightsRow and
// feedbackRow elements from row to row; width is a multiple of setCols. columnGroups has two numbers per column,
// the second of which is its group; scales f32 and choices u32 [rows of the layer, across], one scale a row;
// nearest i8 [sets, 512] and first u8 [256], four in a word. One invocation a group.
// Class: exact but for subnormal numbers, by the sum of both.

struct Params {
  rows: u32,
  width: u32,
  setCols: u32,
  weightsStart: u32,
  weightsRow: u32,
  feedbackStart: u32,
  feedbackRow: u32,
  groupsStart: u32,
  firstRow: u32,
  across: u32,
  candidates: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> choices: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> feedback: array<f32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read> columnGroups: array<u32>;
@group(0) @binding(6) var<storage, read> nearest: array<u32>;
@group(0) @binding(7) var<storage, read> first: array<u32>;

// Those of the group at hand.
var<private> ownRow: u32;
var<private> ownScale: u32;

// Value of column j.
fn unitsAt(j: u32) -> i32 {
  let weight = weights[params.weightsStart + ownRow * params.weightsRow + j];
  let fed = feedback[params.feedbackStart + ownRow * params.feedbackRow + j];
  return unitsOf(bitcast<u32>(weight + fed), ownScale);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let groups = params.width / params.setCols;
  let index = workgroupIndex(workgroup, workgroups) * 64u + local;
  ownRow = index / groups;
  if (ownRow >= params.rows) {
    return;
  }
  ownScale = scales[params.firstRow + ownRow];
  let begin = (index % groups) * params.setCols;
  let group = columnGroups[2u * (params.groupsStart + begin) + 1u];
  let at = (params.firstRow + ownRow) * params.across + group;
  choices[at] = bestSet(begin, params.setCols, i32(params.candidates));
}
