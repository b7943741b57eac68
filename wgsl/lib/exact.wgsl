// Arithmetic with the bits of IEEE 754 if WGSL promises less. A division may be 2.5 units in the last
// place off, a product may be fused with the sum it goes into, NaN and infinity may be taken not to exist,
// and subnormal numbers may be flushed to zero: if bits matter, they are worked out as integers.

const SIGN = 0x80000000u;
const MAGNITUDE = 0x7fffffffu;
const INFINITE = 0x7f800000u;

// A positive number: significand * 2^(exponent - 23), the significand from 2^23 to 2^24.
struct Parts {
  significand: u32,
  exponent: i32,
}

// Takes the bits of a positive finite number apart; subnormal ones are normalised.
fn partsOf(magnitude: u32) -> Parts {
  let field = i32(magnitude >> 23u);
  if (field > 0) {
    return Parts((magnitude & 0x7fffffu) | 0x800000u, field - 127);
  }
  let shift = countLeadingZeros(magnitude) - 8u;
  return Parts(magnitude << shift, -126 - i32(shift));
}

// x / y of two positive finite numbers (as bits), the significand rounded to nearest, ties to even.
// The float quotient is a guess, right to a few units; the integer remainder, exact modulo 2^32, mends it.
fn quotient(x: u32, y: u32) -> Parts {
  let a = partsOf(x);
  let b = partsOf(y);
  let divisor = i32(b.significand);
  let less = a.significand < b.significand;
  let shift = select(23u, 24u, less);
  let exponent = a.exponent - b.exponent - select(0, 1, less);
  var q = u32(f32(a.significand) / f32(b.significand) * f32(1u << shift));
  var rest = i32((a.significand << shift) - q * b.significand);
  while (rest < 0) {
    q -= 1u;
    rest += divisor;
  }
  while (rest >= divisor) {
    q += 1u;
    rest -= divisor;
  }
  if (2 * rest > divisor || (2 * rest == divisor && (q & 1u) == 1u)) {
    q += 1u;
  }
  return Parts(q, exponent);
}

// x / y for positive finite x and y, rounded once. A result below the normal range is 0.
fn divide(x: f32, y: f32) -> f32 {
  let q = quotient(bitcast<u32>(x), bitcast<u32>(y));
  // A significand of 2^24 carries into the exponent by itself.
  let bits = ((q.exponent + 126) << 23u) + i32(q.significand);
  if (q.exponent < -126) {
    return 0.0;
  }
  if (bits >= i32(INFINITE)) {
    return infinity();
  }
  return bitcast<f32>(u32(bits));
}

// Not a constant: the language refuses to build an infinity at compile time.
fn infinity() -> f32 {
  var bits = INFINITE;
  return bitcast<f32>(bits);
}

// v, rounded to f32 whatever follows: `zero` is 0, but only the host knows, so that no compiler can see
// through it: it can neither fuse the product v is with the sum it goes into, nor add the terms of the sum
// v is in another order.
fn keep(v: vec4f, zero: u32) -> vec4f {
  return bitcast<vec4f>(bitcast<vec4u>(v) ^ vec4u(zero));
}

// The same of one number.
fn keepOne(v: f32, zero: u32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) ^ zero);
}

// The bits of x * y for the bits of two finite numbers, rounded once, also if the result, or x or y, is
// subnormal.
fn multiply(x: u32, y: u32) -> u32 {
  let sign = (x ^ y) & SIGN;
  let left = x & MAGNITUDE;
  let right = y & MAGNITUDE;
  if (left == 0u || right == 0u) {
    return sign;
  }
  let a = partsOf(left);
  let b = partsOf(right);
  // 48 bits in two words: the significand has its point behind bit 46.
  let high = (a.significand >> 12u) * (b.significand >> 12u);
  let middle = (a.significand >> 12u) * (b.significand & 0xfffu) +
    (a.significand & 0xfffu) * (b.significand >> 12u);
  let low = (a.significand & 0xfffu) * (b.significand & 0xfffu);
  let lower = low + ((middle & 0xfffu) << 12u);
  var top = high + (middle >> 12u) + (lower >> 24u); // bits 24 and above
  let rest = lower & 0xffffffu; // the 24 bits below
  var exponent = a.exponent + b.exponent;
  // The significand as 24 bits, with one bit more and a sticky one below.
  var wide = (top << 3u) | (rest >> 21u);
  var sticky = (rest & 0x1fffffu) != 0u;
  if (top >= 0x800000u) {
    exponent += 1;
    sticky = sticky || (wide & 1u) != 0u;
    wide >>= 1u;
  }
  // Now 2^25 <= wide < 2^26: 24 bits, and two below them.
  var shift = 2u;
  if (exponent < -126) {
    shift += min(u32(-126 - exponent), 28u);
  }
  let kept = wide >> shift;
  let cut = wide & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let up = cut > half || (cut == half && (sticky || (kept & 1u) == 1u));
  let rounded = kept + select(0u, 1u, up);
  if (exponent < -126) {
    return sign | rounded; // a carry makes it the smallest normal number by itself
  }
  let bits = (u32(exponent + 126) << 23u) + rounded;
  return sign | min(bits, INFINITE);
}

fn isFinite(bits: u32) -> bool {
  return (bits & INFINITE) != INFINITE;
}

fn isNan(bits: u32) -> bool {
  return (bits & MAGNITUDE) > INFINITE;
}
