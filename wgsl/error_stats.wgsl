// errorStats: for every run of 1024 values the sums of (x - xhat)^2, x^2, xhat^2 and x * xhat, and the
// largest |x - xhat|; the host adds the runs up in f64.
//
// Layout: x, xhat f32 [count]; sums f32 [runs, 8] (slots: STATS in backend.ts, 5 used). A workgroup a run.
// NaN and infinity spread into the sums. Squares are f32: magnitudes should stay within 1e-16..1e16.
// Class: close, 1e-6 of the sum of squares: f32 sums of 16 values, then pairwise.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> xhat: array<f32>;

const RUN = 1024u;

var<workgroup> four: array<vec4f, 64>;
var<workgroup> largest: array<f32, 64>;

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
  var sum = vec4f(0.0);
  var most = 0.0;
  for (var i = first + local; i < end; i += 64u) {
    let a = x[i];
    let b = xhat[i];
    let e = a - b;
    sum += vec4f(e * e, a * a, b * b, a * b);
    most = max(most, abs(e));
  }
  four[local] = sum;
  largest[local] = most;
  for (var half = 32u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) {
      four[local] += four[local + half];
      largest[local] = max(largest[local], largest[local + half]);
    }
  }
  if (local == 0u) {
    for (var k = 0u; k < 4u; k++) {
      sums[8u * run + k] = four[0][k];
    }
    sums[8u * run + 4u] = largest[0];
  }
}
