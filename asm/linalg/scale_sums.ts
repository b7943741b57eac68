/**
 * scaleSums: the sums of a product of integers, times the scales of their row and column.
 *
 *     out[i,j] = f32(f32(f32(sums[i,j]) * rowScales[i]) * colScales[j]),   or out[i,j] + that
 *
 * Layout: out f32 and sums i32 [rows, cols], rowScales f32 [rows], colScales f32 [cols]. Any alignment. Tail: one by one.
 * Class: exact (every operation rounds once to f32).
 */
export function scaleSums(
  out: usize, sums: usize, rowScales: usize, colScales: usize, rows: usize, cols: usize, add: bool,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + (i * cols << 2), from = sums + (i * cols << 2);
    const scale = load<f32>(rowScales + (i << 2)), scales = f32x4.splat(scale);
    let j: usize = 0;
    for (; j + 4 <= cols; j += 4) {
      const at = j << 2;
      const scaled = f32x4.mul(f32x4.convert_i32x4_s(v128.load(from + at)), scales);
      const value = f32x4.mul(scaled, v128.load(colScales + at));
      v128.store(to + at, add ? f32x4.add(v128.load(to + at), value) : value);
    }
    for (; j < cols; j++) {
      const at = j << 2;
      const value = <f32>load<i32>(from + at) * scale * load<f32>(colScales + at);
      store<f32>(to + at, add ? load<f32>(to + at) + value : value);
    }
  }
}
