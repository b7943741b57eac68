/**
 * packLevels: levels as the codes of a file, 4 or 6 bits each.
 *
 *     code = codes[set * 256 + level + 128]
 *
 * A row has its low nibbles first, two columns in a byte, the even one in the low half; then, of 6 bits, the two
 * high bits of every code, four columns in a byte, the first in the lowest bits.
 *
 * Layout: levels i8 [rows, cols] row-major, choices u8 [rows, cols / setCols], codes u8 [sets, 256], packed
 * u8 [rows, cols * bits / 8]. setCols is a multiple of 16 and divides cols; of 6 bits, cols is one of 32 or
 * not: 16 columns make 4 bytes of high bits. Any alignment. Class: exact.
 */
export function packLevels(
  packed: usize,
  levels: usize,
  choices: usize,
  codes: usize,
  bits: i32,
  rows: usize,
  cols: usize,
  setCols: usize,
): void {
  const isSixBit = bits == 6;
  for (let r: usize = 0; r < rows; r++) {
    const high = packed + (cols >> 1);
    for (let left: usize = 0; left < cols; left += setCols) {
      const table = codes + (<usize>load<u8>(choices++) << 8) + 128;
      for (let c = left; c < left + setCols; c += 16) {
        const own = codesOf16(table, v128.load(levels));
        levels += 16;
        // Two columns in 16 bits: the even one in the low byte.
        const even = v128.and(own, i16x8.splat(15)), odd = i16x8.shr_u(own, 8);
        const low = v128.or(even, i16x8.shl(v128.and(odd, i16x8.splat(15)), 4));
        v128.store64_lane(packed + (c >> 1), i8x16.narrow_i16x8_u(low, low), 0);
        if (!isSixBit) continue;
        const evenHigh = i16x8.shr_u(v128.and(own, i16x8.splat(0x30)), 4);
        const oddHigh = i16x8.shr_u(v128.and(odd, i16x8.splat(0x30)), 2);
        const pairs = v128.or(evenHigh, oddHigh);
        // Two pairs in 32 bits.
        const fours = v128.or(pairs, i32x4.shr_u(pairs, 12));
        const bytes = i8x16.shuffle(fours, fours, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        v128.store32_lane(high + (c >> 2), bytes, 0);
      }
    }
    packed += cols * <usize>bits >> 3;
  }
}

/** The codes of 16 levels, u8, from the table of their set, whose entry 0 is at `table`. */
// @ts-ignore: decorator
@inline
function codesOf16(table: usize, l: v128): v128 {
  let c = i8x16.splat(0);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 0), c, 0);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 1), c, 1);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 2), c, 2);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 3), c, 3);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 4), c, 4);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 5), c, 5);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 6), c, 6);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 7), c, 7);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 8), c, 8);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 9), c, 9);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 10), c, 10);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 11), c, 11);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 12), c, 12);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 13), c, 13);
  c = v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 14), c, 14);
  return v128.load8_lane(table + <usize>i8x16.extract_lane_s(l, 15), c, 15);
}
