// The code of one value; needs exact.wgsl.

// clamp(roundHalfEven(f32(x / scale)), -127, 127) of two floats given as bits.
fn codeOf(xBits: u32, scaleBits: u32) -> i32 {
  let x = xBits & MAGNITUDE;
  let scale = scaleBits & MAGNITUDE;
  let isNegative = ((xBits ^ scaleBits) & SIGN) != 0u;
  if (x > INFINITE || scale > INFINITE || x == 0u || (x == INFINITE && scale == INFINITE)) {
    return 0;
  }
  if (x == INFINITE || scale == 0u) {
    return select(127, -127, isNegative);
  }
  if (scale == INFINITE) {
    return 0;
  }
  let q = quotient(x, scale);
  var code = 127;
  if (q.exponent < -1) {
    code = 0;
  } else if (q.exponent < 7) {
    let shift = u32(23 - q.exponent);
    let whole = q.significand >> shift;
    let rest = q.significand & ((1u << shift) - 1u);
    let middle = 1u << (shift - 1u);
    let up = rest > middle || (rest == middle && (whole & 1u) == 1u);
    code = min(127, i32(whole) + select(0, 1, up));
  }
  return select(code, -code, isNegative);
}

// The same, quicker: the float quotient is at most 2.5 units off, 4e-5 for what is below 128, and settles the
// code unless it is that near to the middle between two. Compared as bits, so that NaN settles nothing.
fn quickCodeOf(xBits: u32, scaleBits: u32) -> i32 {
  let q = bitcast<f32>(xBits) / bitcast<f32>(scaleBits);
  let nearest = round(q);
  let fromMiddle = abs(abs(q - nearest) - 0.5);
  let scale = scaleBits & MAGNITUDE;
  // 2^-100 to 2^100: divisors for which the language promises anything, and more.
  let isUsual = scale > 0x0d800000u && scale < 0x71800000u && (xBits & MAGNITUDE) < INFINITE;
  if (isUsual && (bitcast<u32>(q) & MAGNITUDE) < 0x43000000u && fromMiddle > 1e-4) {
    return clamp(i32(nearest), -127, 127);
  }
  return codeOf(xBits, scaleBits);
}
