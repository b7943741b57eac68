// roundToSteps: of some sets of evenly spaced levels the one that suits each group of columns, and the levels of it.
// Tables, candidates, errors and levels are those of asm/round_to_steps.ts: integers, whose sum is the same in
// any order.
//
// Layout: x f32 and codes i8 [rows, cols], scales f32 [rows / groupRows, cols / groupCols], choices u8
// [rows, cols / setCols], steps u8 [sets, 80], first u8 [256]; bytes are four in a word, the last word of choices
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

fn placeOf(units: i32) -> u32 {
  return u32(abs(units)) >> 5u;
}

fn stepAt(at: u32) -> u32 {
  return byteOf(steps[at >> 2u], at);
}

fn errorOf(chosen: u32, units: i32) -> u32 {
  let error = abs(units) - 32 * abs(levelOf(chosen, units));
  return u32(error * error);
}

// The level of set `chosen` that is nearest to a value in units.
fn levelOf(chosen: u32, units: i32) -> i32 {
  let table = chosen * 80u;
  let magnitude = u32(abs(units));
  let factor = stepAt(table + 64u) | (stepAt(table + 65u) << 8u);
  var j = min(31u, ((magnitude * factor + 16384u) >> 15u) >> 4u);
  // Rounded up; of negative values those in the middle are above it.
  let half = min(255u, (magnitude + select(15u, 16u, units < 0)) >> 4u);
  if (half > stepAt(table + j)) {
    j += 1u;
  }
  let level = i32(stepAt(table + 32u + j));
  return select(level, -level, units < 0);
}
