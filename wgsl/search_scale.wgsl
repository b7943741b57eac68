// searchScale: shrinks each scale to the candidate of least squared error. Candidates, sums and margin are those
// of asm/search_scale.ts, which says why.
//
// Layout: x f32 [rows, cols] row-major, scales f32 [rows / groupRows, cols / groupCols], in place. A
// workgroup a group; an invocation takes every 64th column of each row.
// The scale stays as it is if it is not between 2^-110 and infinity, or if a value is NaN, infinite or more than
// 127.5 steps.
// Class: exact: errors are integers, summed in 64 bits, in any order; the few products are kept from being
// fused with sums (`keep`), quotients are true ones (`divide`).

struct Params {
  cols: u32,
  groupRows: u32,
  groupCols: u32,
  groups: u32,
  delta: f32,
  top: f32,
  allowance: f32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scales: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;

const CANDIDATES = 8u;
const SUMS = 9u;
const INVOCATIONS = 64u;
const MAGIC = 0x4b000000u; // the bits of 2^23: integers below are what was added to it
const QMAX = 127 * 65536;
const SCALE_MIN = 0x08800000u; // the bits of 2^-110

var<workgroup> partial: array<array<vec2u, 9>, 64>;
var<workgroup> refused: array<u32, 64>;
var<workgroup> totals: array<vec2u, 9>;

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
  let s0 = scales[group];
  let bits = bitcast<u32>(s0);
  let isUsable = bits > SCALE_MIN && bits < INFINITE;
  refused[local] = select(1u, 0u, isUsable);
  var sums: array<vec2u, 9>;
  if (isUsable) {
    let inverse = divide(65536.0, s0);
    let growth = kept(inverse * params.delta);
    let top = i32(params.top);
    for (var r = 0u; r < params.groupRows; r++) {
      let row = start + r * params.cols;
      for (var c = local; c < params.groupCols; c += INVOCATIONS) {
        let magnitude = x[row + c] & MAGNITUDE;
        let rounded = bitcast<u32>(kept(bitcast<f32>(magnitude) * inverse) + 8388608.0);
        if (magnitude >= INFINITE || rounded > MAGIC + 127u * 65536u + 32768u) {
          refused[local] = 1u;
          continue;
        }
        let q = i32(bitcast<u32>(kept(bitcast<f32>(magnitude) * growth) + 8388608.0) - MAGIC);
        var u = i32(rounded - MAGIC) + 8;
        let mayClip = u - 8 > top;
        for (var k = 0u; k < SUMS; k++) {
          var e = (u << 16u) >> 16u;
          if (mayClip) {
            e = max(e, u - QMAX);
          }
          sums[k] = plus(sums[k], square(e >> 4u));
          u += q;
        }
      }
    }
  }
  partial[local] = sums;
  workgroupBarrier();
  if (local < SUMS) {
    var total = vec2u(0u);
    for (var k = 0u; k < INVOCATIONS; k++) {
      total = plus(total, partial[k][local]);
    }
    totals[local] = total;
  }
  workgroupBarrier();
  if (local == 0u) {
    var isRefused = false;
    for (var k = 0u; k < INVOCATIONS; k++) {
      isRefused = isRefused || refused[k] != 0u;
    }
    if (!isRefused) {
      scales[group] = s0 * bestFactor();
    }
  }
}

// The factor of least cost, of the sums in `totals`.
fn bestFactor() -> f32 {
  let first = totals[0];
  let length = 64u - select(countLeadingZeros(first.y), 32u + countLeadingZeros(first.x), first.y == 0u);
  if (length == 0u) {
    return 1.0;
  }
  // 22 bits for the first sum, so that four times as much, all that can win, has 24.
  let shift = u32(max(0, i32(length) - 22));
  let unit = bitcast<f32>((127u - shift) << 23u); // 2^-shift
  var limit = kept(f32(shifted(first, shift)) * (255.0 / 256.0)) - kept(params.allowance * unit);
  var best = 1.0;
  for (var k = 1u; k <= CANDIDATES; k++) {
    let sum = shifted(totals[k], shift);
    if (sum >= 0x1000000u) {
      continue;
    }
    let factor = divide(1.0, 1.0 + kept(f32(k) * params.delta));
    let cost = kept(kept(factor * factor) * f32(sum));
    if (cost < limit) {
      limit = cost;
      best = factor;
    }
  }
  return best;
}

// a + b of 64 bits, the low word first.
fn plus(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// e * e in 64 bits, of a number of up to 20 bits.
fn square(e: i32) -> vec2u {
  let magnitude = u32(abs(e));
  let high = magnitude >> 10u;
  let low = magnitude & 0x3ffu;
  let top = high * high;
  return plus(vec2u(top << 20u, top >> 12u), vec2u(((2u * high * low) << 10u) + low * low, 0u));
}

// value >> shift, or 2^32 - 1 if that has more than 32 bits. `shift` is below 32.
fn shifted(value: vec2u, shift: u32) -> u32 {
  if (shift == 0u) {
    return select(value.x, 0xffffffffu, value.y != 0u);
  }
  if ((value.y >> shift) != 0u) {
    return 0xffffffffu;
  }
  return (value.x >> shift) | (value.y << (32u - shift));
}

fn kept(v: f32) -> f32 {
  return keep(vec4f(v), params.zero).x;
}
