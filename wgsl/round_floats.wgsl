// roundFloats: values as floats of few bits, E4M3 or E2M1. Formulas, candidates and the order of sums are those of
// asm/round_floats.ts.
//
// Layout: x f32 [count], which become the values that codes stand for; codes u8 [count], of kind 2 [count / 2] with
// the even column in the high half; groupScales u8 [count / 32] or [count / 16], of kind 0 not used. Bytes are four
// in a word, the last word filled with 0. One invocation a word of codes (kind 0) or of scales (four groups, one
// after the other). x is finite.
// Class: exact. Quotients are worked out as integers, rounded to f32 first, then to a code; errors smaller than
// 2^-63 of the largest value may count as 0, and no choice depends on them.

struct Params {
  count: u32,
  kind: u32,
  scale: f32,
  search: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> groupScales: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<u32>;

const E4M3 = 0u;
const E4M3_GROUPS = 1u;

// Values of a group.
const E4M3_SIZE = 32u;
const E2M1_SIZE = 16u;

// The largest codes.
const E4M3_MOST = 126u;
const E2M1_MOST = 7u;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let word = workgroupIndex(workgroup, workgroups) * 64u + local;
  if (params.kind == E4M3) {
    if (word * 4u < params.count) {
      let begin = word * 4u;
      codes[word] = e4m3Word(begin, min(4u, params.count - begin), bitcast<u32>(params.scale));
    }
    return;
  }
  let size = select(E2M1_SIZE, E4M3_SIZE, params.kind == E4M3_GROUPS);
  let groups = params.count / size;
  if (word * 4u >= groups) {
    return;
  }
  var packed = 0u;
  for (var k = 0u; k < min(4u, groups - word * 4u); k++) {
    let begin = (word * 4u + k) * size;
    var byte = 0u;
    if (params.kind == E4M3_GROUPS) {
      byte = e4m3Group(begin);
    } else {
      byte = e2m1Group(begin);
    }
    packed |= byte << (8u * k);
  }
  groupScales[word] = packed;
}

// The code of a magnitude: a number of `fraction` bits behind the leading one and exponents from `least` on, in whole
// units below; to nearest, ties to even, at most `most`.
fn nearestCode(magnitude: Parts, fraction: u32, least: i32, most: u32) -> u32 {
  let exponent = max(magnitude.exponent, least);
  let shift = min(31u, 23u - fraction + u32(exponent - magnitude.exponent));
  let whole = magnitude.significand >> shift;
  let rest = magnitude.significand & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  let up = rest > middle || (rest == middle && (whole & 1u) == 1u);
  // A carry makes it the first number of the next exponent by itself.
  return min(most, (u32(exponent - least) << fraction) + whole + select(0u, 1u, up));
}

fn e4m3Of(magnitude: Parts) -> u32 {
  return nearestCode(magnitude, 3u, -6, E4M3_MOST);
}

// The value of an E4M3 code from 0 to 126, as bits.
fn e4m3Value(code: u32) -> u32 {
  return select((code + 960u) << 20u, bitcast<u32>(f32(code) * 0.001953125), code < 8u);
}

// The value of an E2M1 code from 0 to 7, as bits.
fn e2m1Value(code: u32) -> u32 {
  return select((code + 252u) << 22u, bitcast<u32>(f32(code) * 0.5), code < 2u);
}

// The bits of value * scale, of a finite value and a scale that is not negative.
fn scaled(value: u32, scale: u32) -> u32 {
  let field = scale >> 23u;
  if (field > 16u && field < 240u) {
    return bitcast<u32>(bitcast<f32>(value) * bitcast<f32>(scale));
  }
  return multiply(value, scale);
}

// Codes of up to four values under a scale, which become what codes stand for.
fn e4m3Word(begin: u32, count: u32, scale: u32) -> u32 {
  var packed = 0u;
  for (var k = 0u; k < count; k++) {
    let i = begin + k;
    let bits = x[i];
    let magnitude = bits & MAGNITUDE;
    var code = 0u;
    if (magnitude != 0u) {
      code = e4m3Of(quotient(magnitude, scale));
    }
    x[i] = (bits & SIGN) | scaled(e4m3Value(code), scale);
    packed |= (((bits & SIGN) >> 24u) | code) << (8u * k);
  }
  return packed;
}

fn largestOf(begin: u32, size: u32) -> u32 {
  var most = 0u;
  for (var i = begin; i < begin + size; i++) {
    most = max(most, x[i] & MAGNITUDE);
  }
  return most;
}

// A magnitude times 2^exponent. Of zero: zero.
fn shiftedParts(magnitude: u32, exponent: i32) -> Parts {
  if (magnitude == 0u) {
    return Parts(0u, -1000);
  }
  let parts = partsOf(magnitude);
  return Parts(parts.significand, parts.exponent + exponent);
}

// That number as f32; what would be subnormal is 0.
fn floatOf(parts: Parts) -> f32 {
  if (parts.exponent < -126) {
    return 0.0;
  }
  return bitcast<f32>((u32(parts.exponent + 127) << 23u) | (parts.significand & 0x7fffffu));
}

// Rounds a group to E4M3 under a power of 2. Returns its biased exponent.
fn e4m3Group(begin: u32) -> u32 {
  let largest = largestOf(begin, E4M3_SIZE);
  // 448 is 1.75 * 2^8.
  let above = select(0, 1, (largest & 0x7fffffu) > 0x600000u);
  var exponent = max(1, i32(largest >> 23u) - 8 + above);
  if (params.search != 0u && exponent > 1) {
    // In units of the scale, whose squares are a quarter as large below.
    if (e4m3Error(begin, exponent - 1) < 4.0 * e4m3Error(begin, exponent)) {
      exponent -= 1;
    }
  }
  for (var k = 0u; k < E4M3_SIZE; k += 4u) {
    codes[(begin + k) >> 2u] = e4m3Word(begin + k, 4u, u32(exponent) << 23u);
  }
  return u32(exponent);
}

// The squared error of a group under 2^(exponent - 127), in its units.
fn e4m3Error(begin: u32, exponent: i32) -> f32 {
  var sum = vec4f(0.0);
  for (var i = begin; i < begin + E4M3_SIZE; i += 4u) {
    let errors = vec4f(
      e4m3Off(x[i], exponent), e4m3Off(x[i + 1u], exponent),
      e4m3Off(x[i + 2u], exponent), e4m3Off(x[i + 3u], exponent),
    );
    sum = keep(sum + keep(errors * errors, params.zero), params.zero);
  }
  return total(sum);
}

fn e4m3Off(bits: u32, exponent: i32) -> f32 {
  let parts = shiftedParts(bits & MAGNITUDE, 127 - exponent);
  return keepOne(floatOf(parts) - bitcast<f32>(e4m3Value(e4m3Of(parts))), params.zero);
}

fn total(lanes: vec4f) -> f32 {
  let low = keepOne(lanes.x + lanes.y, params.zero);
  return keepOne(low + keepOne(lanes.z + lanes.w, params.zero), params.zero);
}

// Rounds a group to E2M1 under an E4M3 number times the scale. Returns the code of that number.
fn e2m1Group(begin: u32) -> u32 {
  let largest = largestOf(begin, E2M1_SIZE);
  let scale = bitcast<u32>(params.scale);
  var byte = 0u;
  if (largest != 0u) {
    let reaching = sixthOf(largest);
    if (reaching != 0u) {
      byte = e4m3Of(quotient(reaching, scale));
    }
  }
  if (params.search != 0u) {
    byte = bestByte(begin, largest, byte);
  }
  let own = multiply(e4m3Value(byte), scale);
  for (var k = 0u; k < E2M1_SIZE; k += 8u) {
    codes[(begin + k) >> 3u] = e2m1Word(begin + k, own);
  }
  return byte;
}

// The bits of value / 6, rounded once, for those of a positive finite value.
fn sixthOf(value: u32) -> u32 {
  let field = value >> 23u;
  if (field >= 4u) {
    return bitcast<u32>(divide(bitcast<f32>(value), 6.0));
  }
  // In units of the smallest subnormal number: the sixth has those, too, below 2^24 of them.
  let units = select(((value & 0x7fffffu) | 0x800000u) << (max(field, 1u) - 1u), value, field == 0u);
  let whole = units / 6u;
  let rest = units % 6u;
  return whole + select(0u, 1u, rest > 3u || (rest == 3u && (whole & 1u) == 1u));
}

// Of the byte that is given and those at -1, +1, -2, -3 the one of least squared error, of several the first.
fn bestByte(begin: u32, largest: u32, reaching: u32) -> u32 {
  // In units of a power of 2 near the largest value squares neither overflow nor vanish.
  let unit = 127 - i32(clamp(largest >> 23u, 1u, 253u));
  let factor = u32(unit + 127) << 23u;
  var best = reaching;
  var least = INFINITE;
  for (var i = 0; i < 5; i++) {
    // 0, -1, 1, -2, -3
    let step = select(select(1 - i, -i, i < 2), 1, i == 2);
    let byte = u32(clamp(i32(reaching) + step, 0, i32(E4M3_MOST)));
    let own = multiply(multiply(e4m3Value(byte), bitcast<u32>(params.scale)), factor);
    if (own >= INFINITE) {
      continue;
    }
    // Magnitudes: their bits have their order.
    let error = bitcast<u32>(e2m1Error(begin, unit, own));
    if (error < least) {
      least = error;
      best = byte;
    }
  }
  return best;
}

// The squared error of a group under the scale `own`, both times 2^unit.
fn e2m1Error(begin: u32, unit: i32, own: u32) -> f32 {
  var sum = vec4f(0.0);
  for (var i = begin; i < begin + E2M1_SIZE; i += 4u) {
    let errors = vec4f(
      e2m1Off(x[i], unit, own), e2m1Off(x[i + 1u], unit, own),
      e2m1Off(x[i + 2u], unit, own), e2m1Off(x[i + 3u], unit, own),
    );
    sum = keep(sum + keep(errors * errors, params.zero), params.zero);
  }
  return total(sum);
}

fn e2m1Off(bits: u32, unit: i32, own: u32) -> f32 {
  let y = floatOf(shiftedParts(bits & MAGNITUDE, unit));
  var value = 0.0;
  if (own != 0u && y > 0.0) {
    let code = nearestCode(quotient(bitcast<u32>(y), own), 1u, 0, E2M1_MOST);
    value = keepOne(bitcast<f32>(e2m1Value(code)) * bitcast<f32>(own), params.zero);
  }
  return keepOne(y - value, params.zero);
}

// Codes of eight values under a scale, two in a byte, the first in its high half.
fn e2m1Word(begin: u32, own: u32) -> u32 {
  var packed = 0u;
  for (var k = 0u; k < 8u; k++) {
    let code = e2m1Code(x[begin + k], own);
    x[begin + k] = ((code & 8u) << 28u) | scaled(e2m1Value(code & 7u), own);
    packed |= code << (4u * (k ^ 1u));
  }
  return packed;
}

fn e2m1Code(bits: u32, own: u32) -> u32 {
  let magnitude = bits & MAGNITUDE;
  if (magnitude == 0u || own == 0u) {
    return 0u;
  }
  let q = quotient(magnitude, own);
  // A quotient that is 0 as f32 has no sign.
  let isZero = q.exponent < -150 || (q.exponent == -150 && q.significand == 0x800000u);
  let sign = select(0u, 8u, (bits & SIGN) != 0u && !isZero);
  return sign | nearestCode(q, 1u, 0, E2M1_MOST);
}
