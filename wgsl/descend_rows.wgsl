// descendRows: one pass of coordinate descent over the codes of a tile of up to 64 columns. Gain, cost and
// the order of what is done are those of asm/linalg/descend_rows.ts, which says what they mean:
//
//     d = -s if e > 0, s if e < 0; t = d * weights[r]
//     gain = d * (g + g) + d * (t * panel[j, offset + j]),  cost = d * (e + e + d)
//     move if gain + penalty * cost < 0 and the new code is within +-127:
//         code += sign(d); e += d; gradient[r, :] += t * panel[j, :]
//
// Moves of a row see those before them, rows do not see one another: a workgroup takes a row. Invocation j
// keeps the gradient of column j of the tile and decides on its code, once it has added what the moves
// before it changed; one barrier a column. Columns beside the tile take all moves afterwards, each in
// their order, which gives them the same bits.
//
// Layout: codes i8, four in a word, row r from byte codesStart + r * codesRow on; errors and gradient f32, rows
// from errorsStart and gradientStart on; panel f32, row j from panelStart + j * panelRow on, width values
// like those
// of gradient; weights f32 from weightsStart on; the scale of an element is
// scales[((firstRow + r) / groupRows) * scaleCols + columnGroups[groupsStart + j]].
// report f32: for every row its moves and the sums of gain and cost, which grow, and a fourth value that is
// not used; then moves [rows, cols]: d, or 0 if the code stayed. descend_sums.wgsl reads them.
// Another row may have its codes in the same word: a code is changed by an atomic xor of its byte.
// A NaN error or gradient moves nothing.
// Class: exact but for subnormal numbers: products are kept from being fused with sums, sums in their order. The
// sums of gain and cost: close, 1e-5 of the sums of their magnitudes (f32 within a row).

struct Params {
  rows: u32,
  cols: u32,
  width: u32,
  offset: u32,
  codesStart: u32,
  codesRow: u32,
  errorsStart: u32,
  errorsRow: u32,
  gradientStart: u32,
  gradientRow: u32,
  panelStart: u32,
  panelRow: u32,
  weightsStart: u32,
  groupsStart: u32,
  firstRow: u32,
  groupRows: u32,
  scaleCols: u32,
  penalty: f32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> errors: array<u32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> report: array<f32>;
@group(0) @binding(5) var<storage, read> panel: array<f32>;
@group(0) @binding(6) var<storage, read> weights: array<f32>;
@group(0) @binding(7) var<storage, read> scales: array<f32>;
@group(0) @binding(8) var<storage, read> columnGroups: array<i32>;

var<workgroup> moves: array<f32, 64>;
var<workgroup> moved: array<u32, 64>; // the columns that moved, ascending
var<workgroup> movedCount: u32;
var<workgroup> totals: array<vec3f, 64>; // moves, gain and cost of every column

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let row = workgroupIndex(workgroup, workgroups);
  if (row >= params.rows) {
    return;
  }
  let weight = weights[params.weightsStart + row];
  let gradientRow = params.gradientStart + row * params.gradientRow;
  let isInTile = local < params.cols;
  var g = 0.0;
  totals[local] = vec3f(0.0);
  if (isInTile) {
    g = gradient[gradientRow + params.offset + local];
  }
  var count = 0u;
  for (var j = 0u; j < params.cols; j++) {
    if (local == j) {
      moves[j] = decide(row, j, g, weight);
    }
    workgroupBarrier();
    let d = moves[j];
    if (local == 0u && d != 0.0) {
      moved[count] = j;
      count++;
    }
    if (d != 0.0 && isInTile) {
      let at = params.panelStart + j * params.panelRow + params.offset + local;
      g = keepOne(g + product(d * weight, panel[at]), params.zero);
    }
  }
  if (isInTile) {
    gradient[gradientRow + params.offset + local] = g;
    report[4u * params.rows + row * params.cols + local] = moves[local];
  }
  if (local == 0u) {
    movedCount = count;
  }
  let all = workgroupUniformLoad(&movedCount);
  if (all == 0u) {
    return;
  }
  for (var i = local; i < params.width; i += 64u) {
    if (i >= params.offset && i < params.offset + params.cols) {
      continue;
    }
    var value = gradient[gradientRow + i];
    for (var k = 0u; k < all; k++) {
      let j = moved[k];
      let change = product(moves[j] * weight, panel[params.panelStart + j * params.panelRow + i]);
      value = keepOne(value + change, params.zero);
    }
    gradient[gradientRow + i] = value;
  }
  for (var half = 32u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) {
      totals[local] += totals[local + half];
    }
  }
  workgroupBarrier(); // the last sum is written by one and read by three
  if (local < 3u) {
    report[4u * row + local] += totals[0][local];
  }
}

// The step of the code of column j, in weights; 0: it stays. Changes code and error.
fn decide(row: u32, j: u32, g: f32, weight: f32) -> f32 {
  let at = params.errorsStart + row * params.errorsRow + j;
  let bits = errors[at];
  if ((bits & MAGNITUDE) == 0u || isNan(bits)) {
    return 0.0;
  }
  let isAbove = (bits & SIGN) == 0u;
  let e = bitcast<f32>(bits);
  let group = ((params.firstRow + row) / params.groupRows) * params.scaleCols +
    u32(columnGroups[params.groupsStart + j]);
  let s = scales[group];
  let d = select(s, -s, isAbove);
  let h = panel[params.panelStart + j * params.panelRow + params.offset + j];
  let gain = keepOne(product(d, g + g) + product(d, product(d * weight, h)), params.zero);
  let cost = product(d, keepOne(e + e, params.zero) + d);
  let change = gain + product(params.penalty, cost);
  if (isNan(bitcast<u32>(change)) || !(change < 0.0)) {
    return 0.0;
  }
  let byte = params.codesStart + row * params.codesRow + j;
  let shift = 8u * (byte % 4u);
  let code = extractBits(bitcast<i32>(atomicLoad(&codes[byte / 4u])), shift, 8u);
  let moved = select(code + 1, code - 1, isAbove);
  if (moved < -127 || moved > 127) {
    return 0.0;
  }
  atomicXor(&codes[byte / 4u], (u32(code ^ moved) & 0xffu) << shift);
  errors[at] = bitcast<u32>(e + d);
  totals[j] = vec3f(1.0, gain, cost);
  return d;
}

// x * y, rounded.
fn product(x: f32, y: f32) -> f32 {
  return keepOne(x * y, params.zero);
}
