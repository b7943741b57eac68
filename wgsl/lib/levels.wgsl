// Values in units of 1/32 of their scale; needs exact.wgsl.

// clamp(roundHalfEven(f32(x / scale) * 32), -8191, 8191) of two floats given as bits; NaN: 0. The float quotient
// is at most 2.5 units off, 2e-3 for what is below 8192, and settles it unless it is that near to the middle between
// two. Compared as bits, so that NaN settles nothing.
fn unitsOf(xBits: u32, scaleBits: u32) -> i32 {
  let q = 32.0 * (bitcast<f32>(xBits) / bitcast<f32>(scaleBits));
  let nearest = round(q);
  let fromMiddle = abs(abs(q - nearest) - 0.5);
  let scale = scaleBits & MAGNITUDE;
  // 2^-100 to 2^100: divisors for which the language promises anything, and more.
  let isUsual = scale > 0x0d800000u && scale < 0x71800000u && (xBits & MAGNITUDE) < INFINITE;
  if (isUsual && (bitcast<u32>(q) & MAGNITUDE) < 0x45ffe000u && fromMiddle > 4e-3) {
    return i32(nearest);
  }
  return exactUnitsOf(xBits, scaleBits);
}

fn exactUnitsOf(xBits: u32, scaleBits: u32) -> i32 {
  let x = xBits & MAGNITUDE;
  let scale = scaleBits & MAGNITUDE;
  let isNegative = ((xBits ^ scaleBits) & SIGN) != 0u;
  if (x > INFINITE || scale > INFINITE || x == 0u || (x == INFINITE && scale == INFINITE)) {
    return 0;
  }
  if (x == INFINITE || scale == 0u) {
    return select(8191, -8191, isNegative);
  }
  if (scale == INFINITE) {
    return 0;
  }
  let q = quotient(x, scale);
  let exponent = q.exponent + 5;
  var units = 8191;
  if (exponent < -1) {
    units = 0;
  } else if (exponent < 13) {
    let shift = u32(23 - exponent);
    let whole = q.significand >> shift;
    let rest = q.significand & ((1u << shift) - 1u);
    let middle = 1u << (shift - 1u);
    let up = rest > middle || (rest == middle && (whole & 1u) == 1u);
    units = min(8191, i32(whole) + select(0, 1, up));
  }
  return select(units, -units, isNegative);
}

// Set `index`, of sets that are four in a word.
fn byteOf(word: u32, index: u32) -> u32 {
  return (word >> ((index & 3u) * 8u)) & 0xffu;
}
