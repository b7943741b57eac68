// histogram: counts[min(floor(|x| * binsPerUnit), bins - 1)] += 1 for every value.
//
// Layout: x f32 [count]; counts u32 [bins], added to. One invocation a value.
// NaN (also inf * 0) counts in bin 0, infinity in the last. Class: exact (one f32 multiplication).

struct Params {
  count: u32,
  bins: u32,
  binsPerUnit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read> x: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let i = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (i >= params.count) {
    return;
  }
  let bits = x[i] & MAGNITUDE;
  let last = params.bins - 1u;
  var bin = 0u;
  if (bits == INFINITE) {
    bin = select(0u, last, params.binsPerUnit > 0.0);
  } else if (bits < INFINITE) {
    // Bits decide what is not a number (0 * inf) and what is beyond u32: neither may be converted.
    let unit = bitcast<u32>(params.binsPerUnit);
    var place = bitcast<u32>(bitcast<f32>(bits) * params.binsPerUnit);
    // A device may take a subnormal number for 0.
    if (bits < 0x800000u && isFinite(unit)) {
      place = multiply(bits, unit);
    } else if (bits != 0u && unit == INFINITE) {
      place = INFINITE;
    }
    if (place >= INFINITE) {
      bin = select(0u, last, place == INFINITE);
    } else if (bitcast<f32>(place) >= f32(params.bins)) {
      bin = last;
    } else {
      bin = min(u32(bitcast<f32>(place)), last);
    }
  }
  atomicAdd(&counts[bin], 1u);
}
