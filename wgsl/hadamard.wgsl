// hadamardRows, hadamardColumns: every line of a matrix times the Sylvester Hadamard matrix of its length, and
// then times a norm. A dispatch does the stages of strides apart, 2 apart, .. apart * count / 2 of every line,
// and multiplies by `factor`: 1, until the last one.
//
// Layout: x f32 in place; line i begins at element i * lineStride, its elements are `step` apart. A piece is
// `count` elements, a power of 2 up to 1024, that are `apart` elements of the line from each other; a line is
// `blocks` runs of `apart` such pieces. A workgroup takes 1024 / count pieces in its memory. Where linesFirst
// is 1, neighbouring pieces are of neighbouring lines, else of neighbouring elements.
//
// Pairs (a, b) become (a + b, a - b), strides rising, two stages at once as in asm/linalg/hadamard.ts.
// NaN and infinity spread over their line. Class: exact, where the device keeps subnormal numbers.

struct Params {
  lines: u32,
  lineStride: u32,
  step: u32,
  apart: u32,
  count: u32,
  blocks: u32,
  linesFirst: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

const VALUES = 1024u;
const INVOCATIONS = 256u;

var<workgroup> values: array<f32, VALUES>;

// Which value of the workgroup an invocation reads and writes, so that neighbours are neighbours in x.
fn placeOf(index: u32) -> u32 {
  if (params.step == 1u && params.apart == 1u) {
    return index;
  }
  let pieces = VALUES / params.count;
  return (index % pieces) * params.count + index / pieces;
}

// The element of x that value `place` is, of the pieces from `piece`; those beyond the end have none.
fn addressOf(piece: u32, place: u32) -> u32 {
  let p = piece + place / params.count;
  var line = 0u;
  var offset = 0u;
  var run = 0u;
  if (params.linesFirst == 1u) {
    line = p % params.lines;
    offset = (p / params.lines) % params.apart;
    run = p / params.lines / params.apart;
  } else {
    offset = p % params.apart;
    run = (p / params.apart) % params.blocks;
    line = p / params.apart / params.blocks;
  }
  let inLine = (run * params.count + place % params.count) * params.apart + offset;
  return line * params.lineStride + inLine * params.step;
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let piece = workgroupIndex(workgroup, workgroups) * (VALUES / params.count);
  let all = params.lines * params.blocks * params.apart;
  for (var index = local; index < VALUES; index += INVOCATIONS) {
    let place = placeOf(index);
    if (piece + place / params.count < all) {
      values[place] = x[addressOf(piece, place)];
    }
  }
  var s = 1u;
  for (; 4u * s <= params.count; s *= 4u) {
    workgroupBarrier();
    let i = (local / s) * 4u * s + local % s;
    let a = values[i];
    let b = values[i + s];
    let c = values[i + 2u * s];
    let d = values[i + 3u * s];
    let e = a + b;
    let f = a - b;
    let g = c + d;
    let h = c - d;
    values[i] = e + g;
    values[i + s] = f + h;
    values[i + 2u * s] = e - g;
    values[i + 3u * s] = f - h;
  }
  if (s < params.count) {
    workgroupBarrier();
    for (var pair = local; pair < VALUES / 2u; pair += INVOCATIONS) {
      let i = (pair / s) * 2u * s + pair % s;
      let a = values[i];
      let b = values[i + s];
      values[i] = a + b;
      values[i + s] = a - b;
    }
  }
  workgroupBarrier();
  for (var index = local; index < VALUES; index += INVOCATIONS) {
    let place = placeOf(index);
    if (piece + place / params.count < all) {
      x[addressOf(piece, place)] = values[place] * params.factor;
    }
  }
}
