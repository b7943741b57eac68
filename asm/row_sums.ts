/**
 * multiplyRows: sums of products along rows; weighDifferences: sums of weighted differences.
 *
 *     out[r] = a[r,0] b[r,0] + a[r,1] b[r,1] + ...
 *     out[r] = weights[0] (a[r,0] - b[r,0]) + weights[1] (a[r,1] - b[r,1]) + ...
 *
 * Layout: a, b f32 [rows, cols], which may be the same; weights f64 [cols], out f64 [rows]. Any alignment. Two rows at a
 * time, a lane for each, and the last odd row alone; every row from its first column to its last. NaN and infinity
 * spread into the sum of their row. Class: exact (all in f64, additions in one order).
 */

export function multiplyRows(out: usize, a: usize, b: usize, rows: usize, cols: usize): void {
  let r: usize = 0;
  for (; r + 2 <= rows; r += 2) {
    const a0 = a + (r * cols << 2), b0 = b + (r * cols << 2), a1 = a0 + (cols << 2), b1 = b0 + (cols << 2);
    let sums = f64x2.splat(0), k: usize = 0;
    for (; k + 2 <= cols; k += 2) {
      const at = k << 2;
      const p0 = f64x2.mul(pair(a0 + at), pair(b0 + at)), p1 = f64x2.mul(pair(a1 + at), pair(b1 + at));
      sums = f64x2.add(sums, first(p0, p1));
      sums = f64x2.add(sums, second(p0, p1));
    }
    let s0 = f64x2.extract_lane(sums, 0), s1 = f64x2.extract_lane(sums, 1);
    if (k < cols) {
      s0 += single(a0, k) * single(b0, k);
      s1 += single(a1, k) * single(b1, k);
    }
    store<f64>(out + (r << 3), s0);
    store<f64>(out + (r << 3), s1, 8);
  }
  if (r === rows) return;
  const a0 = a + (r * cols << 2), b0 = b + (r * cols << 2);
  let sum: f64 = 0;
  for (let k: usize = 0; k < cols; k++) sum += single(a0, k) * single(b0, k);
  store<f64>(out + (r << 3), sum);
}

export function weighDifferences(
  out: usize, weights: usize, a: usize, b: usize, rows: usize, cols: usize,
): void {
  let r: usize = 0;
  for (; r + 2 <= rows; r += 2) {
    const a0 = a + (r * cols << 2), b0 = b + (r * cols << 2), a1 = a0 + (cols << 2), b1 = b0 + (cols << 2);
    let sums = f64x2.splat(0), k: usize = 0;
    for (; k + 2 <= cols; k += 2) {
      const at = k << 2;
      const d0 = f64x2.sub(pair(a0 + at), pair(b0 + at)), d1 = f64x2.sub(pair(a1 + at), pair(b1 + at));
      sums = f64x2.add(sums, f64x2.mul(v128.load64_splat(weights + (k << 3)), first(d0, d1)));
      sums = f64x2.add(sums, f64x2.mul(v128.load64_splat(weights + (k << 3), 8), second(d0, d1)));
    }
    let s0 = f64x2.extract_lane(sums, 0), s1 = f64x2.extract_lane(sums, 1);
    if (k < cols) {
      const weight = load<f64>(weights + (k << 3));
      s0 += weight * (single(a0, k) - single(b0, k));
      s1 += weight * (single(a1, k) - single(b1, k));
    }
    store<f64>(out + (r << 3), s0);
    store<f64>(out + (r << 3), s1, 8);
  }
  if (r === rows) return;
  const a0 = a + (r * cols << 2), b0 = b + (r * cols << 2);
  let sum: f64 = 0;
  for (let k: usize = 0; k < cols; k++) {
    sum += load<f64>(weights + (k << 3)) * (single(a0, k) - single(b0, k));
  }
  store<f64>(out + (r << 3), sum);
}

/** Two values in f64. */
// @ts-ignore: decorator
@inline
function pair(at: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(at));
}

// @ts-ignore: decorator
@inline
function single(row: usize, k: usize): f64 {
  return <f64>load<f32>(row + (k << 2));
}

/** The first lanes of both. */
// @ts-ignore: decorator
@inline
function first(a: v128, b: v128): v128 {
  return v128.shuffle<u64>(a, b, 0, 2);
}

// @ts-ignore: decorator
@inline
function second(a: v128, b: v128): v128 {
  return v128.shuffle<u64>(a, b, 1, 3);
}
