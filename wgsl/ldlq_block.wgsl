// ldlqBlock: rounds the columns of one block from the last to the first, each column corrected by the errors
// of those already rounded. Formula, NaN and infinity rule: asm/linalg/ldlq_block.ts.
//
// Layout: codes i8, four in a word, from word codesStart, codesRow words from row to row, the last word of a
// row filled with 0; weights f32 [rows, width], which become errors, from element weightsStart; feedback f32
// [rows, width]; panel [width, width] unit lower, stored as PANEL_STORAGE says (lib/operand.wgsl, a constant
// that the host puts before this text). The scale of an element is
// scales[((firstRow + r) / groupRows) * scaleCols + columnGroups[groupsStart + j]]. width is at most 128.
//
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
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
@group(0) @binding(3) var<storage, read> feedback: array<f32>;
@group(0) @binding(4) var<storage, read> panel: array<u32>;
@group(0) @binding(5) var<storage, read> scales: array<u32>;
@group(0) @binding(6) var<storage, read> columnGroups: array<u32>;

fn scaleOf(row: u32, j: u32) -> u32 {
  let scaleRow = ((params.firstRow + row) / params.groupRows) * params.scaleCols;
  return scales[scaleRow + columnGroups[params.groupsStart + j]];
}

fn noteRule(_place: u32, _row: u32, _j: u32) {
}

fn reachStep(_local: u32, _top: u32, _first: u32) {
}

fn codeAt(_place: u32, wanted: u32, scale: u32) -> i32 {
  return quickCodeOf(wanted, scale);
}

// A code of 0 has the sign of what was rounded, as f32 has it.
fn taken(wanted: u32, scale: u32, code: i32) -> f32 {
  let x = wanted & MAGNITUDE;
  let s = scale & MAGNITUDE;
  let isNothing = x > INFINITE || s > INFINITE || x + s == 0u || (x == INFINITE && s == INFINITE);
  let sign = select((wanted ^ scale) & SIGN, 0u, isNothing);
  let q = bitcast<f32>(bitcast<u32>(f32(abs(code))) | sign);
  return product(q, bitcast<f32>(scale));
}
