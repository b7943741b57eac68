/**
 * dequantize: out = f32(code) * scale, the scale that of the element's group.
 *
 * Layout: as `quantize`. Any alignment. Tail: the last 16 of a segment overlap those before; segments
 * under 16 go one by one. Class: exact (one f32 multiplication).
 */

export function dequantize(
  out: usize,
  codes: usize,
  scales: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
): void {
  const scalesPerRow = cols / groupCols;
  for (let r: usize = 0; r < rows; r++) {
    let scale = scales + (((r / groupRows) * scalesPerRow) << 2);
    for (let left: usize = 0; left < cols; left += groupCols) {
      const at = r * cols + left;
      dequantizeSegment(out + (at << 2), codes + at, load<f32>(scale), groupCols);
      scale += 4;
    }
  }
}

function dequantizeSegment(out: usize, codes: usize, scale: f32, n: usize): void {
  if (n < 16) {
    for (let i: usize = 0; i < n; i++) {
      store<f32>(out + (i << 2), <f32>load<i8>(codes + i) * scale);
    }
    return;
  }
  const factor = f32x4.splat(scale);
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) values16(out + (i << 2), codes + i, factor);
  if (i < n) values16(out + ((n - 16) << 2), codes + n - 16, factor);
}

// @ts-ignore: decorator
@inline
function values16(out: usize, codes: usize, factor: v128): void {
  const v = v128.load(codes);
  const low = i16x8.extend_low_i8x16_s(v), high = i16x8.extend_high_i8x16_s(v);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), factor));
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), factor), 16);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), factor), 32);
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), factor), 48);
}
