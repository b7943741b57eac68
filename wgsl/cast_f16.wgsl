// castF16: out[i] = binary16(x[i]), ties to even; first = min(first, index of a finite value that becomes
// infinite).
//
// Layout: x f32 [count]; out u16, two in a word, the first in the low half; first u32 [1], which begins as
// 0xffffffff. One invocation a word.
// NaN: 0x7e00 with its sign. Infinity stays. Subnormal results are rounded once, like all others.
// Class: exact; integers only.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read_write> first: atomic<u32>;
@group(0) @binding(3) var<storage, read> x: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 256u + local;
  let i = word * 2u;
  if (i >= params.count) {
    return;
  }
  var packed = halfOf(i);
  if (i + 1u < params.count) {
    packed |= halfOf(i + 1u) << 16u;
  }
  result[word] = packed;
}

fn halfOf(i: u32) -> u32 {
  let sign = (x[i] >> 31u) << 15u;
  let bits = x[i] & MAGNITUDE;
  if (bits > INFINITE) {
    return sign | 0x7e00u;
  }
  if (bits >= 0x477ff000u) { // 65520
    if (bits < INFINITE) {
      atomicMin(&first, i);
    }
    return sign | 0x7c00u;
  }
  if (bits >= 0x38800000u) { // 2^-14, the smallest normal
    return sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13u) & 1u)) >> 13u);
  }
  // In units of 2^-24. Below half of one everything is zero.
  let shift = 126u - (bits >> 23u);
  if (shift > 24u) {
    return sign;
  }
  let significand = (bits & 0x7fffffu) | 0x800000u;
  let kept = significand >> shift;
  let cut = significand & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  let up = cut > middle || (cut == middle && (kept & 1u) == 1u);
  return sign | (kept + select(0u, 1u, up));
}
