// decode: out[i] = f32(source[i]) for the dtypes that hold weights.
//
// Layout: source, the bytes of `count` elements of `dtype` in words, little-endian; out f32 [count].
// One invocation an element. Results are bits: no subnormal is flushed.
// F64 rounds to nearest even, beyond the range of f32 to infinity; every other dtype is exact. NaN stays
// NaN. F8_E4M3 has no infinity.
// Class: exact.

struct Params {
  count: u32,
  dtype: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read> source: array<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let i = workgroupIndex(workgroup, workgroups) * 256u + local;
  if (i < params.count) {
    result[i] = decoded(i);
  }
}

fn decoded(i: u32) -> u32 {
  switch params.dtype {
    case 0u: { // F64
      return fromF64(source[2u * i + 1u], source[2u * i]);
    }
    case 1u: { // F32
      return source[i];
    }
    case 2u: { // F16
      return widen(half(i), 16u, 10u, 15, true);
    }
    case 3u: { // BF16
      return half(i) << 16u;
    }
    case 4u: { // F8_E4M3
      return widen(byte(i), 8u, 3u, 7, false);
    }
    default: { // F8_E5M2
      return widen(byte(i), 8u, 2u, 15, true);
    }
  }
}

fn half(i: u32) -> u32 {
  return (source[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
}

fn byte(i: u32) -> u32 {
  return (source[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu;
}

// A number of `width` bits, `fraction` of them behind the point, as f32.
fn widen(bits: u32, width: u32, fraction: u32, bias: i32, hasInfinity: bool) -> u32 {
  let sign = (bits >> (width - 1u)) << 31u;
  let magnitude = bits & ((1u << (width - 1u)) - 1u);
  let largest = (1u << (width - 1u)) - 1u;
  let infinite = largest ^ ((1u << fraction) - 1u);
  if (hasInfinity && magnitude >= infinite) {
    return sign | INFINITE | ((magnitude - infinite) << (23u - fraction));
  }
  if (!hasInfinity && magnitude == largest) {
    return sign | 0x7fc00000u;
  }
  let field = magnitude >> fraction;
  if (field > 0u) {
    return sign | ((magnitude << (23u - fraction)) + (u32(127 - bias) << 23u));
  }
  if (magnitude == 0u) {
    return sign;
  }
  // Subnormal here, normal as f32: the leading bit becomes the hidden one.
  let top = 31u - countLeadingZeros(magnitude);
  let exponent = u32(127 + 1 - bias - i32(fraction) + i32(top));
  return sign | (exponent << 23u) | ((magnitude << (23u - top)) & 0x7fffffu);
}

fn fromF64(high: u32, low: u32) -> u32 {
  let sign = high & SIGN;
  let field = i32((high >> 20u) & 0x7ffu);
  if (field == 0x7ff) {
    let isNumber = (high & 0xfffffu) == 0u && low == 0u;
    return sign | select(0x7fc00000u, INFINITE, isNumber);
  }
  let exponent = field - 1023 + 127;
  if (exponent >= 255) {
    return sign | INFINITE;
  }
  // 24 bits of significand, and all that is below them as one sticky bit each.
  let significand = ((high & 0xfffffu) << 3u) | (low >> 29u) | select(0u, 0x800000u, field > 0);
  let below = low & 0x1fffffffu;
  if (exponent > 0) {
    let up = below > 0x10000000u || (below == 0x10000000u && (significand & 1u) == 1u);
    // Rounding up may carry into the exponent, and from there to infinity: both are right.
    return sign | ((u32(exponent) << 23u) + (significand & 0x7fffffu) + select(0u, 1u, up));
  }
  let shift = u32(1 - exponent);
  if (shift > 24u) {
    return sign;
  }
  let kept = significand >> shift;
  let cut = significand & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  let above = cut > middle || (cut == middle && below > 0u);
  let tie = cut == middle && below == 0u;
  return sign | (kept + select(0u, 1u, above || (tie && (kept & 1u) == 1u)));
}
