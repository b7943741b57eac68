// errorStats: for every run of 1024 values the sums of (x - xhat)^2, x^2, xhat^2 and x * xhat, and the
// largest |x - xhat|; the host adds the runs up in f64. A run whose squares could leave the range of f32 is
// summed in units of powers of two: of `unit` for x and xhat, of `errorUnit` for x - xhat.
//
// Layout: x, xhat f32 [count]; sums f32 [runs, 8] (slots: STATS in backend.ts, then the two units as exponents
// of 2). A workgroup a run. NaN and infinity spread into the sums. Subnormal values may count as zero.
// Class: close, 1e-6 of the sum of squares: f32 sums of 16 values, then pairwise.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> xhat: array<f32>;

const RUN = 1024u;

// Squares and sums of values between these fit into f32, with errors of down to a millionth of them.
const SMALLEST = 1e-12;
const LARGEST = 1e15;

var<workgroup> four: array<vec4f, 64>;
// The largest |x - xhat|, and the largest |x| or |xhat|.
var<workgroup> largest: array<vec2f, 64>;

// The exponent of a power of two; in units of it `value` can be squared. 0 for most values.
fn unitOf(value: f32) -> i32 {
  if (value == 0.0 || (value >= SMALLEST && value <= LARGEST)) {
    return 0;
  }
  let exponent = i32((bitcast<u32>(value) >> 23u) & 255u) - 127;
  // 128: infinity or NaN, which spread as they are.
  return select(clamp(exponent, -126, 126), 0, exponent == 128);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let run = workgroupIndex(workgroup, workgroups);
  let first = run * RUN;
  if (first >= params.count) {
    return;
  }
  let end = min(first + RUN, params.count);
  var most = vec2f(0.0);
  for (var i = first + local; i < end; i += 64u) {
    most = max(most, vec2f(abs(x[i] - xhat[i]), max(abs(x[i]), abs(xhat[i]))));
  }
  largest[local] = most;
  for (var half = 32u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) {
      largest[local] = max(largest[local], largest[local + half]);
    }
  }
  workgroupBarrier();
  let span = largest[0];
  let errorUnit = unitOf(span.x);
  let unit = unitOf(span.y);
  var sum = vec4f(0.0);
  for (var i = first + local; i < end; i += 64u) {
    let e = ldexp(x[i] - xhat[i], -errorUnit);
    let a = ldexp(x[i], -unit);
    let b = ldexp(xhat[i], -unit);
    sum += vec4f(e * e, a * a, b * b, a * b);
  }
  four[local] = sum;
  for (var half = 32u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) {
      four[local] += four[local + half];
    }
  }
  if (local == 0u) {
    for (var k = 0u; k < 4u; k++) {
      sums[8u * run + k] = four[0][k];
    }
    sums[8u * run + 4u] = span.x;
    sums[8u * run + 5u] = f32(unit);
    sums[8u * run + 6u] = f32(errorUnit);
  }
}
