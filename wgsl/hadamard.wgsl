// hadamardRows, hadamardColumns: every line of a matrix times the Sylvester Hadamard matrix of its length, and
// then times a norm. A dispatch does the stages of strides apart, 2 apart, .. apart * count / 2 of every line,
// and multiplies by `factor`: 1, until the last one.
//
// Layout: x f32 in place; line i begins at element i * lineStride, its elements are `step` apart. A piece is
// `count` elements, at most 1024, that are `apart` elements of the line from each other; a line is `blocks`
// runs of `apart` such pieces. All three are powers of 2, given by their exponents: divisions are slow. A
// workgroup takes 1024 / count pieces in its memory. If linesFirst is 1, neighbouring pieces are of
// neighbouring lines, else of neighbouring elements.
//
// Pairs (a, b) become (a + b, a - b), strides rising, two stages at once as in asm/linalg/hadamard.ts; `keep`
// (lib/exact.wgsl) holds a compiler to that order. NaN and infinity spread over their line.
// Class: exact but for subnormal numbers.

struct Params {
  lines: u32,
  lineStride: u32,
  step: u32,
  apartLog: u32,
  countLog: u32,
  blocksLog: u32,
  linesFirst: u32,
  factor: f32,
  // 0; see `keep`.
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

const VALUES_LOG = 10u;
const VALUES = 1u << VALUES_LOG;
const INVOCATIONS = 256u;

var<workgroup> values: array<f32, VALUES>;

fn lowBits(value: u32, bits: u32) -> u32 {
  return value & ((1u << bits) - 1u);
}

// Which value of the workgroup an invocation reads and writes, so that neighbours are neighbours in x.
fn placeOf(index: u32) -> u32 {
  if (params.step == 1u && params.apartLog == 0u) {
    return index;
  }
  let piecesLog = VALUES_LOG - params.countLog;
  return (lowBits(index, piecesLog) << params.countLog) + (index >> piecesLog);
}

// The element of x that value `place` is, of the pieces from `first`; those beyond the end have none.
fn addressOf(first: u32, place: u32) -> u32 {
  let piece = first + (place >> params.countLog);
  var line = piece >> (params.apartLog + params.blocksLog);
  var inLine = piece;
  if (params.linesFirst == 1u) {
    line = piece % params.lines;
    inLine = piece / params.lines;
  }
  let offset = lowBits(inLine, params.apartLog);
  let block = lowBits(inLine >> params.apartLog, params.blocksLog);
  let run = (block << params.countLog) + lowBits(place, params.countLog);
  return line * params.lineStride + ((run << params.apartLog) + offset) * params.step;
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let first = workgroupIndex(workgroup, workgroups) << (VALUES_LOG - params.countLog);
  let pieces = params.lines << (params.blocksLog + params.apartLog);
  for (var index = local; index < VALUES; index += INVOCATIONS) {
    let place = placeOf(index);
    if (first + (place >> params.countLog) < pieces) {
      values[place] = x[addressOf(first, place)];
    }
  }
  var log = 0u;
  for (; log + 2u <= params.countLog; log += 2u) {
    workgroupBarrier();
    let s = 1u << log;
    let i = ((local >> log) << (log + 2u)) + lowBits(local, log);
    let a = values[i];
    let b = values[i + s];
    let c = values[i + 2u * s];
    let d = values[i + 3u * s];
    let pairs = keep(vec4f(a + b, a - b, c + d, c - d), params.zero);
    values[i] = pairs.x + pairs.z;
    values[i + s] = pairs.y + pairs.w;
    values[i + 2u * s] = pairs.x - pairs.z;
    values[i + 3u * s] = pairs.y - pairs.w;
  }
  if (log < params.countLog) {
    workgroupBarrier();
    for (var pair = local; pair < VALUES / 2u; pair += INVOCATIONS) {
      let s = 1u << log;
      let i = ((pair >> log) << (log + 1u)) + lowBits(pair, log);
      let a = values[i];
      let b = values[i + s];
      values[i] = a + b;
      values[i + s] = a - b;
    }
  }
  workgroupBarrier();
  for (var index = local; index < VALUES; index += INVOCATIONS) {
    let place = placeOf(index);
    if (first + (place >> params.countLog) < pieces) {
      x[addressOf(first, place)] = values[place] * params.factor;
    }
  }
}
