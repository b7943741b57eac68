/**
 * absmax: out[g] = max |x| over group g.
 *
 * Layout: x f32 [rows, cols] row-major, out f32 [rows / groupRows, cols / groupCols]. Any alignment.
 * Tail: the last vector of a segment overlaps the one before it (a maximum may see a value twice);
 * segments under one vector go one by one.
 * NaN: ignored (a comparison with NaN keeps the maximum so far). Infinity: the maximum is infinite.
 * Class: exact, in any order.
 */

import { maxLanesF32 } from "./lib/lanes";

export function absmax(
  out: usize,
  x: usize,
  rows: usize,
  cols: usize,
  groupRows: usize,
  groupCols: usize,
): void {
  for (let top: usize = 0; top < rows; top += groupRows) {
    for (let left: usize = 0; left < cols; left += groupCols) {
      let largest: f32 = 0;
      for (let r: usize = 0; r < groupRows; r++) {
        largest = max(largest, absmaxSegment(x + (((top + r) * cols + left) << 2), groupCols));
      }
      store<f32>(out, largest);
      out += 4;
    }
  }
}

/** max |x| of `n` contiguous values. Four accumulators hide the latency of the maximum. */
export function absmaxSegment(x: usize, n: usize): f32 {
  let m0 = i64x2.splat(0);
  if (n < 4) {
    let largest: f32 = 0;
    for (let i: usize = 0; i < n; i++) {
      const magnitude = abs(load<f32>(x + (i << 2)));
      if (magnitude > largest) largest = magnitude;
    }
    return largest;
  }
  let i: usize = 0;
  if (n >= 16) {
    let m1 = m0, m2 = m0, m3 = m0;
    for (; i + 16 <= n; i += 16) {
      const p = x + (i << 2);
      // pmax(m, v) is m < v ? v : m, so a NaN in v keeps m.
      m0 = f32x4.pmax(m0, f32x4.abs(v128.load(p)));
      m1 = f32x4.pmax(m1, f32x4.abs(v128.load(p, 16)));
      m2 = f32x4.pmax(m2, f32x4.abs(v128.load(p, 32)));
      m3 = f32x4.pmax(m3, f32x4.abs(v128.load(p, 48)));
    }
    m0 = f32x4.pmax(f32x4.pmax(m0, m1), f32x4.pmax(m2, m3));
  }
  for (; i + 4 <= n; i += 4) m0 = f32x4.pmax(m0, f32x4.abs(v128.load(x + (i << 2))));
  if (i < n) m0 = f32x4.pmax(m0, f32x4.abs(v128.load(x + ((n - 4) << 2))));
  return maxLanesF32(m0);
}
