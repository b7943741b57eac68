// searchClip: of some shares of the scale of a row that of least squared error, for 15 levels. Formula and the order
// of sums are those of asm/search_clip.ts.
//
// Layout: x f32 [rows, cols] row-major, scales f32 [rows], in place, shares f32 [candidates], from 1/8 to 1. cols is
// a multiple of 4. A workgroup a row: 16 shares at a time, four invocations each, one a lane of the sums.
// A scale stays if it is not positive and finite, or if a value is NaN or infinite, or beyond f32 in units of it.
// Class: exact but for subnormal numbers. Quotients are true ones (`divide`), the sums of runs are added up as f64 are.

struct Params {
  rows: u32,
  cols: u32,
  candidates: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scales: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> shares: array<f32>;

const INVOCATIONS = 64u;
const LANES = 4u;
const SHARES = 16u;
const RUN = 1024u;

// The values of a run in units of the scale, and sums of their squared errors.
var<workgroup> quotients: array<f32, RUN>;
var<workgroup> sums: array<f32, INVOCATIONS>;
var<workgroup> errors: array<vec2u, SHARES>;
var<workgroup> refused: array<u32, INVOCATIONS>;

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
  let scale = scales[row];
  let scaleBits = bitcast<u32>(scale);
  var isRefused = scaleBits == 0u || scaleBits >= INFINITE;
  var best = scale;
  var least = vec2u(0u, 0x7ff00000u); // infinite
  for (var first = 0u; first < params.candidates; first += SHARES) {
    let share = shares[min(first + local / LANES, params.candidates - 1u)];
    let inverse = divide(1.0, share);
    var sum = vec2u(0u);
    for (var start = 0u; start < params.cols; start += RUN) {
      let count = min(RUN, params.cols - start);
      for (var i = local; i < count; i += INVOCATIONS) {
        let bits = x[row * params.cols + start + i];
        let magnitude = bits & MAGNITUDE;
        var t = 0.0;
        if (magnitude >= INFINITE || isRefused) {
          isRefused = true;
        } else if (magnitude != 0u) {
          t = divide(bitcast<f32>(magnitude), scale);
          isRefused = bitcast<u32>(t) >= INFINITE;
        }
        quotients[i] = select(t, -t, (bits & SIGN) != 0u);
      }
      workgroupBarrier();
      var lane = 0.0;
      for (var i = local % LANES; i < count; i += LANES) {
        let t = quotients[i];
        let code = clamp(round(kept(t * inverse)), -7.0, 7.0);
        let error = kept(t - kept(code * share));
        lane = kept(lane + kept(error * error));
      }
      sums[local] = lane;
      workgroupBarrier();
      if (local % LANES == 0u) {
        let low = kept(sums[local] + sums[local + 1u]);
        let high = kept(sums[local + 2u] + sums[local + 3u]);
        sum = plus(sum, bitcast<u32>(kept(low + high)));
      }
    }
    if (local % LANES == 0u) {
      errors[local / LANES] = sum;
    }
    workgroupBarrier();
    if (local == 0u) {
      for (var k = 0u; k < min(SHARES, params.candidates - first); k++) {
        if (isLess(errors[k], least)) {
          least = errors[k];
          best = scale * shares[first + k];
        }
      }
    }
  }
  refused[local] = select(0u, 1u, isRefused);
  workgroupBarrier();
  if (local == 0u) {
    var isLeft = false;
    for (var k = 0u; k < INVOCATIONS; k++) {
      isLeft = isLeft || refused[k] != 0u;
    }
    if (!isLeft) {
      scales[row] = best;
    }
  }
}

fn kept(v: f32) -> f32 {
  return keepOne(v, params.zero);
}

// Whether a is below b, both bits of f64 that are not negative, the low word first.
fn isLess(a: vec2u, b: vec2u) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// The bits of the f64 sum of an f64 and an f32, given as bits, neither negative.
fn plus(a: vec2u, b: u32) -> vec2u {
  if (b == 0u || a.y >= 0x7ff00000u) {
    return a;
  }
  if (b >= INFINITE) {
    return vec2u(0u, 0x7ff00000u);
  }
  // Significands with three bits more, in two words.
  let parts = partsOf(b);
  var large = vec2u(0u, parts.significand);
  var exponent = parts.exponent + 1023;
  var small = vec2u(0u);
  var distance = 0u;
  if (a.y != 0u) {
    let own = vec2u(a.x << 3u, (((a.y & 0xfffffu) | 0x100000u) << 3u) | (a.x >> 29u));
    let difference = i32(a.y >> 20u) - exponent;
    small = own;
    if (difference >= 0) {
      small = large;
      large = own;
      exponent += difference;
    }
    distance = u32(abs(difference));
  }
  small = below(small, distance);
  let low = large.x + small.x;
  var high = large.y + small.y + select(0u, 1u, low < large.x);
  var lower = low;
  if (high >= 0x1000000u) {
    lower = (low >> 1u) | (low & 1u) | (high << 31u);
    high >>= 1u;
    exponent += 1;
  }
  let rest = lower & 7u;
  let whole = (lower >> 3u) | (high << 29u);
  let up = select(0u, 1u, rest > 4u || (rest == 4u && (whole & 1u) == 1u));
  let rounded = whole + up;
  // The leading bit, and a carry, add to the exponent by themselves.
  let top = (high >> 3u) + select(0u, 1u, rounded < up);
  return vec2u(rounded, (u32(exponent - 1) << 20u) + top);
}

// value / 2^distance, its last bit 1 if a bit was lost.
fn below(value: vec2u, distance: u32) -> vec2u {
  var result = value;
  var lost = 0u;
  if (distance >= 64u) {
    lost = value.x | value.y;
    result = vec2u(0u);
  } else if (distance >= 32u) {
    let rest = distance - 32u;
    lost = value.x | (value.y & ((1u << rest) - 1u));
    result = vec2u(value.y >> rest, 0u);
  } else if (distance > 0u) {
    lost = value.x & ((1u << distance) - 1u);
    result = vec2u((value.x >> distance) | (value.y << (32u - distance)), value.y >> distance);
  }
  return result | vec2u(select(0u, 1u, lost != 0u), 0u);
}
