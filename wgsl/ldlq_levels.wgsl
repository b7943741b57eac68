// ldlqLevels: ldlqBlock for grids of few levels. Formula and NaN rule: asm/linalg/ldlq_levels.ts.
//
// Layout as in ldlq_block.wgsl, but columnGroups has two numbers per column: which scale, and which set it has. The
// set of an element is choices[(firstRow + r) * across + columnGroups[2 (groupsStart + j) + 1]], u32; tables i8
// [sets, 512], four in a word.
//
// If setCols is not 0, sets are chosen when their columns are reached, those of a group of setCols, at most 128, as
// ldlqChosenLevels does; `first`, u8 [256], follows the tables. The 128 invocations of a workgroup try eight sets
// for each of its 16 rows, every one with the errors of its own rounding. A sum of what these feed back into a column
// is made when the column is reached, its terms in the order in which the CPU adds them.
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
  setCols: u32,
  lastSet: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
@group(0) @binding(3) var<storage, read> feedback: array<f32>;
@group(0) @binding(4) var<storage, read> panel: array<u32>;
@group(0) @binding(5) var<storage, read> scales: array<u32>;
@group(0) @binding(6) var<storage, read> columnGroups: array<u32>;
@group(0) @binding(7) var<storage, read_write> choices: array<u32>;
@group(0) @binding(8) var<storage, read> nearest: array<u32>;

// How many sets are tried, and how far the first of them is above the one that reaches the largest value.
const TRIED = 8u;
const ABOVE = 3u;

// Sets of this step, [STEP, ROWS], and those that were chosen.
var<workgroup> stepSets: array<u32, STEP * ROWS>;
var<workgroup> rowSets: array<u32, ROWS>;
// The first set that is tried, and the squared errors of all, [ROWS, TRIED].
var<workgroup> startSets: array<u32, ROWS>;
var<workgroup> setErrors: array<u32, ROWS * TRIED>;
// What the set that this invocation tries leaves of the columns of the group.
var<private> ownErrors: array<f32, 128>;

fn scaleOf(row: u32, j: u32) -> u32 {
  let scaleRow = ((params.firstRow + row) / params.groupRows) * params.scaleCols;
  return scales[scaleRow + columnGroups[2u * (params.groupsStart + j)]];
}

// Where the set of a column lies.
fn choiceOf(row: u32, j: u32) -> u32 {
  let group = columnGroups[2u * (params.groupsStart + j) + 1u];
  return (params.firstRow + row) * params.across + group;
}

fn noteRule(place: u32, row: u32, j: u32) {
  if (params.setCols == 0u) {
    stepSets[place] = choices[choiceOf(row, j)];
  }
}

// Chooses the sets of the groups whose columns end with this step, and stores them.
fn reachStep(local: u32, top: u32, first: u32) {
  if (params.setCols == 0u || (first + STEP) % params.setCols != 0u) {
    return;
  }
  let begin = first + STEP - params.setCols;
  let row = local / TRIED;
  if (top + row < params.rows) {
    let start = firstTried(row, top + row, begin);
    if (local % TRIED == 0u) {
      startSets[row] = start;
    }
    let chosen = start - min(start, local % TRIED);
    setErrors[local] = errorOfSet(chosen, row, top + row, begin);
  }
  workgroupBarrier();
  if (local < ROWS && top + local < params.rows) {
    var best = 0u;
    for (var k = 1u; k < TRIED; k++) {
      if (setErrors[local * TRIED + k] < setErrors[local * TRIED + best]) {
        best = k;
      }
    }
    let start = startSets[local];
    rowSets[local] = start - min(start, best);
    choices[choiceOf(top + local, begin)] = rowSets[local];
  }
}

fn weightAt(row: u32, j: u32) -> f32 {
  return weights[params.weightsStart + row * params.weightsRow + j];
}

// The highest set that is tried for a group.
fn firstTried(place: u32, row: u32, begin: u32) -> u32 {
  let scale = scaleOf(row, begin);
  var most = 0u;
  for (var j = begin; j < begin + params.setCols; j++) {
    let wanted = weightAt(row, j) + fedInto(place, j);
    most = max(most, placeOf(unitsOf(bitcast<u32>(wanted), scale)));
  }
  let word = nearest[(params.lastSet + 1u) * 128u + (most >> 2u)];
  return min(params.lastSet, byteOf(word, most) + ABOVE);
}

// The squared error of a group that is rounded with one set, errors fed back within the group.
fn errorOfSet(chosen: u32, place: u32, row: u32, begin: u32) -> u32 {
  let scale = scaleOf(row, begin);
  var sum = 0u;
  for (var c = params.setCols; c > 0u; ) {
    c--;
    var back = fedInto(place, begin + c);
    for (var d = params.setCols - 1u; d > c; d--) {
      let part = product(ownErrors[d], panelAt(begin + d, begin + c));
      back = keepOne(back + part, params.zero);
    }
    let weight = weightAt(row, begin + c);
    let units = unitsOf(bitcast<u32>(weight + back), scale);
    let level = levelOf(chosen, units);
    let error = units - 32 * level;
    sum += u32(error * error);
    ownErrors[c] = weight - product(f32(level), bitcast<f32>(scale));
  }
  return sum;
}

fn codeAt(place: u32, wanted: u32, scale: u32) -> i32 {
  let chosen = select(rowSets[place % ROWS], stepSets[place], params.setCols == 0u);
  return levelOf(chosen, unitsOf(wanted, scale));
}

fn taken(_wanted: u32, scale: u32, code: i32) -> f32 {
  return product(f32(code), bitcast<f32>(scale));
}
