// ldlqLevels: ldlqBlock for grids of few levels. Formula and NaN rule: asm/linalg/ldlq_levels.ts.
//
// Layout as in ldlq_block.wgsl, but columnGroups has two numbers per column: which scale, and which set it has. The
// set of an element is choices[(firstRow + r) * across + columnGroups[2 (groupsStart + j) + 1]], u32; nearest i8
// [sets, 512], four in a word.
// Class: exact but for subnormal numbers: products are kept from being fused with sums, sums in their order.

struct Params {
  rows: u32,
  width: u32,
  codesStart: u32,
  codesRow: u32,
  weightsStart: u32,
  weightsRow: u32,
  feedbackStart: u32,
  feedbackRow: u32,
  panelStart: u32,
  panelRow: u32,
  groupsStart: u32,
  firstRow: u32,
  groupRows: u32,
  scaleCols: u32,
  across: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
@group(0) @binding(3) var<storage, read> feedback: array<f32>;
@group(0) @binding(4) var<storage, read> panel: array<u32>;
@group(0) @binding(5) var<storage, read> scales: array<u32>;
@group(0) @binding(6) var<storage, read> columnGroups: array<u32>;
@group(0) @binding(7) var<storage, read> choices: array<u32>;
@group(0) @binding(8) var<storage, read> nearest: array<u32>;

// Sets of this step, [STEP, ROWS].
var<workgroup> stepSets: array<u32, STEP * ROWS>;

fn scaleOf(row: u32, j: u32) -> u32 {
  let scaleRow = ((params.firstRow + row) / params.groupRows) * params.scaleCols;
  return scales[scaleRow + columnGroups[2u * (params.groupsStart + j)]];
}

fn noteRule(place: u32, row: u32, j: u32) {
  let group = columnGroups[2u * (params.groupsStart + j) + 1u];
  stepSets[place] = choices[(params.firstRow + row) * params.across + group];
}

fn codeAt(place: u32, wanted: u32, scale: u32) -> i32 {
  return levelOf(stepSets[place], unitsOf(wanted, scale));
}

fn taken(_wanted: u32, scale: u32, code: i32) -> f32 {
  return product(f32(code), bitcast<f32>(scale));
}
