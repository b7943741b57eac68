/**
 * weighSquares: the sums of squares along rows, each value weighted first.
 *
 *     out[r] = (x[r,0] weights[0])^2 + (x[r,1] weights[1])^2 + ...
 *
 * Layout: x f32 [rows, cols], xRow elements from row to row; weights f64 [cols], or address 0 for all 1; out f64 [rows].
 * Any alignment. Two rows at a time, a lane for each, and the last odd row alone; every row from its first column to its
 * last. NaN and infinity spread into the sum of their row. Class: exact (all in f64, additions in one order).
 */
export function weighSquares(
  out: usize, x: usize, weights: usize, rows: usize, cols: usize, xRow: usize,
): void {
  let r: usize = 0;
  for (; r + 2 <= rows; r += 2) {
    const above = x + (r * xRow << 2), below = above + (xRow << 2);
    let sums = f64x2.splat(0), k: usize = 0;
    for (; k + 2 <= cols; k += 2) {
      let a = f64x2.promote_low_f32x4(v128.load64_zero(above + (k << 2)));
      let b = f64x2.promote_low_f32x4(v128.load64_zero(below + (k << 2)));
      if (weights !== 0) {
        const own = v128.load(weights + (k << 3));
        a = f64x2.mul(a, own);
        b = f64x2.mul(b, own);
      }
      a = f64x2.mul(a, a);
      b = f64x2.mul(b, b);
      sums = f64x2.add(sums, v128.shuffle<u64>(a, b, 0, 2));
      sums = f64x2.add(sums, v128.shuffle<u64>(a, b, 1, 3));
    }
    let s0 = f64x2.extract_lane(sums, 0), s1 = f64x2.extract_lane(sums, 1);
    if (k < cols) {
      s0 += squareOf(above, weights, k);
      s1 += squareOf(below, weights, k);
    }
    store<f64>(out + (r << 3), s0);
    store<f64>(out + (r << 3), s1, 8);
  }
  if (r === rows) return;
  let sum: f64 = 0;
  for (let k: usize = 0; k < cols; k++) sum += squareOf(x + (r * xRow << 2), weights, k);
  store<f64>(out + (r << 3), sum);
}

// @ts-ignore: decorator
@inline
function squareOf(row: usize, weights: usize, k: usize): f64 {
  const value = <f64>load<f32>(row + (k << 2)), weight = weights === 0 ? 1 : load<f64>(weights + (k << 3));
  const product = value * weight;
  return product * product;
}
