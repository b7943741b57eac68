/**
 * solveBlock: X·Lᵀ = B for a small lower triangular L; X replaces B.
 *
 * Layout: x f64 [rows, n], l f64 [n, n], row-major with xRow and lRow elements from row to row; of l only
 * the lower triangle is read. Any alignment. Meant for n of about 16.
 *
 *     x[r,j] = (b[r,j] - x[r,0] l[j,0] - x[r,1] l[j,1] - ...) / l[j,j]
 *
 * in this order. Rows are independent, so any split over rows gives the same. A zero on the diagonal gives
 * infinities or NaN. Class: exact.
 */
export function solveBlock(
  x: usize, l: usize, rows: usize, n: usize, xRow: usize, lRow: usize,
): void {
  let r: usize = 0;
  for (; r + 4 <= rows; r += 4) solveFour(x + (r * xRow << 3), l, n << 3, xRow << 3, lRow << 3);
  for (; r < rows; r++) solveOne(x + (r * xRow << 3), l, n << 3, lRow << 3);
}

/** Four rows at a time, so that four chains of subtractions run side by side. Sizes in bytes. */
function solveFour(x: usize, l: usize, n: usize, xRow: usize, lRow: usize): void {
  const x1 = x + xRow, x2 = x1 + xRow, x3 = x2 + xRow;
  for (let j: usize = 0; j < n; j += 8) {
    let v0 = load<f64>(x + j), v1 = load<f64>(x1 + j), v2 = load<f64>(x2 + j);
    let v3 = load<f64>(x3 + j);
    for (let k: usize = 0; k < j; k += 8) {
      const factor = load<f64>(l + k);
      v0 -= load<f64>(x + k) * factor;
      v1 -= load<f64>(x1 + k) * factor;
      v2 -= load<f64>(x2 + k) * factor;
      v3 -= load<f64>(x3 + k) * factor;
    }
    const diagonal = load<f64>(l + j);
    store<f64>(x + j, v0 / diagonal);
    store<f64>(x1 + j, v1 / diagonal);
    store<f64>(x2 + j, v2 / diagonal);
    store<f64>(x3 + j, v3 / diagonal);
    l += lRow;
  }
}

function solveOne(x: usize, l: usize, n: usize, lRow: usize): void {
  for (let j: usize = 0; j < n; j += 8) {
    let value = load<f64>(x + j);
    for (let k: usize = 0; k < j; k += 8) value -= load<f64>(x + k) * load<f64>(l + k);
    store<f64>(x + j, value / load<f64>(l + j));
    l += lRow;
  }
}
