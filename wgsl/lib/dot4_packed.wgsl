// The product of four int8 by four int8, added up: one instruction on most devices. Needs the language
// feature packed_4x8_integer_dot_product; lib/dot4_bits.wgsl does without.

fn dot4(a: u32, b: u32) -> i32 {
  return dot4I8Packed(a, b);
}
