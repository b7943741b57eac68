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

// A value in units as whole steps.
fn magnitudeOf(units: i32) -> i32 {
  return clamp((units + 16) >> 5u, -127, 127);
}

fn placeOf(units: i32) -> u32 {
  return u32(abs(magnitudeOf(units)));
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

fn errorOf(chosen: u32, units: i32) -> u32 {
  let table = chosen * 48u;
  let c = magnitudeOf(units);
  let error = c - stepAt(table + 16u + middlesBelow(table, c));
  return min(4095u, u32(error * error));
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
