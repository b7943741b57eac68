// searchScale: shrinks each scale to the candidate of least squared error. Candidates, margin and the order
// of all sums are those of asm/search_scale.ts, which says why.
//
// Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], in place. A
// workgroup a group; an invocation sums one run of 64 columns, for four candidates at once, in the four
// lanes that the definition has; runs are then added one after the other.
// NaN or infinity in a group, an all-zero group, or a scale that is not a positive finite number: the
// scale stays as it is.
// Class: exact: products are kept from being fused with sums (`keep`), quotients are true ones (`divide`).

struct Params {
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  groups: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scales: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;

const RUN = 64u;
const RUNS = 64u; // that a workgroup sums at a time
const MARGIN = 1.0 - 1.0 / 4096.0;

var<workgroup> partial: array<array<vec4f, 4>, 64>;
var<workgroup> sums: array<f32, 4>;
var<workgroup> notFinite: array<u32, 64>;
var<workgroup> entry: f32;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let group = workgroupIndex(workgroup, workgroups);
  if (group >= params.groups) {
    return;
  }
  let across = params.cols / params.groupCols;
  let start = (group / across) * params.groupRows * params.cols +
    (group % across) * params.groupCols;
  if (local == 0u) {
    entry = scales[group];
  }
  // The same for the whole workgroup, which the compiler must know: there are barriers further down.
  let s0 = workgroupUniformLoad(&entry);
  let bits = bitcast<u32>(s0);
  if (bits == 0u || bits >= INFINITE) {
    return;
  }
  let errors = squaredErrors(start, vec4f(divide(1.0, s0)), local);
  let first = errors.x;
  let firstBits = bitcast<u32>(first);
  if (firstBits == 0u || firstBits >= INFINITE) {
    return;
  }
  let wanted = keep(vec4f(1.45 * divide(first, 127.0 * 127.0)), params.zero).x;
  let width = min(max(wanted, 0.022), 0.5);
  let step = width * 0.25;
  var limit = first * MARGIN;
  var best = 1.0;

  let f1 = 1.0 - step;
  let f2 = f1 - step;
  let f3 = f2 - step;
  let coarse = vec4f(f1, f2, f3, f3 - step);
  var costs = costsOf(start, s0, coarse, local);
  for (var k = 0u; k < 4u; k++) {
    if (costs[k] < limit) {
      limit = costs[k];
      best = coarse[k];
    }
  }
  let half = step * 0.5;
  let quarter = step * 0.25;
  var fine = vec4f(best + half, best + quarter, best - quarter, best - half);
  if (best == 1.0) {
    let g1 = 1.0 - quarter;
    let g2 = g1 - quarter;
    let g3 = g2 - quarter;
    fine = vec4f(g1, g2, g3, g3 - quarter * 0.5);
  }
  costs = costsOf(start, s0, fine, local);
  for (var k = 0u; k < 4u; k++) {
    if (costs[k] < limit) {
      limit = costs[k];
      best = fine[k];
    }
  }
  if (local == 0u) {
    scales[group] = s0 * best;
  }
}

// cost(f) of four factors.
fn costsOf(start: u32, s0: f32, factors: vec4f, local: u32) -> vec4f {
  let smaller = keep(s0 * factors, params.zero);
  let inverses = vec4f(
    divide(1.0, smaller.x),
    divide(1.0, smaller.y),
    divide(1.0, smaller.z),
    divide(1.0, smaller.w),
  );
  let errors = squaredErrors(start, inverses, local);
  return keep(factors * factors, params.zero) * errors;
}

// The sums of squared rounding errors of the group, in steps, for four reciprocal scales; infinite where the
// group has NaN or infinity.
fn squaredErrors(start: u32, inverses: vec4f, local: u32) -> vec4f {
  let runsPerRow = (params.groupCols + RUN - 1u) / RUN;
  let runs = params.groupRows * runsPerRow;
  var total = vec4f(0.0); // the four lanes of candidate `local`, for the first four invocations
  var isFiniteSoFar = true;
  for (var begin = 0u; begin < runs; begin += RUNS) {
    let run = begin + local;
    if (run < runs) {
      let row = run / runsPerRow;
      let left = (run % runsPerRow) * RUN;
      partial[local] = errorsOfRun(
        start + row * params.cols + left,
        min(RUN, params.groupCols - left),
        inverses,
        local,
      );
    }
    workgroupBarrier();
    if (local < 4u) {
      for (var k = 0u; k < min(RUNS, runs - begin); k++) {
        total += partial[k][local];
        isFiniteSoFar = isFiniteSoFar && notFinite[k] == 0u;
      }
    }
    workgroupBarrier();
  }
  if (local < 4u) {
    sums[local] = select(infinity(), (total.x + total.y) + (total.z + total.w), isFiniteSoFar);
  }
  let result = workgroupUniformLoad(&sums);
  return vec4f(result[0], result[1], result[2], result[3]);
}

// Lane j of candidate c: the sum over columns j, j + 4, ... of one run.
fn errorsOfRun(at: u32, length: u32, inverses: vec4f, local: u32) -> array<vec4f, 4> {
  var lanes: array<vec4f, 4>;
  notFinite[local] = 0u;
  for (var j = 0u; j < length; j += 4u) {
    var bits = vec4u(x[at + j], 0u, 0u, 0u);
    // What is beyond the end counts as zero, which adds exactly nothing.
    if (j + 1u < length) {
      bits.y = x[at + j + 1u];
    }
    if (j + 2u < length) {
      bits.z = x[at + j + 2u];
    }
    if (j + 3u < length) {
      bits.w = x[at + j + 3u];
    }
    bits &= vec4u(MAGNITUDE);
    if (any(bits >= vec4u(INFINITE))) {
      notFinite[local] = 1u;
    }
    let magnitudes = bitcast<vec4f>(bits);
    lanes[0] = addError(lanes[0], magnitudes, inverses.x);
    lanes[1] = addError(lanes[1], magnitudes, inverses.y);
    lanes[2] = addError(lanes[2], magnitudes, inverses.z);
    lanes[3] = addError(lanes[3], magnitudes, inverses.w);
  }
  return lanes;
}

// sum + (t - min(roundHalfEven(t), 127))^2 with t = magnitude * inverse.
fn addError(sum: vec4f, magnitudes: vec4f, inverse: f32) -> vec4f {
  let t = keep(magnitudes * inverse, params.zero);
  let e = t - min(round(t), vec4f(127.0));
  return sum + keep(e * e, params.zero);
}
