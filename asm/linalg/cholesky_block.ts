/**
 * choleskyBlock: A = L·Lᵀ for a small symmetric f64 matrix; L replaces the lower triangle.
 *
 * Layout: a [n, n] row-major, aRow elements from row to row; the upper triangle is neither read nor
 * written. Any alignment. Meant for n of about 16: `src/linalg/cholesky.ts` builds large factors from it.
 *
 *     L[j,j] = sqrt(a[j,j] - L[j,0]^2 - L[j,1]^2 - ...)
 *     L[i,j] = (a[i,j] - L[i,0] L[j,0] - L[i,1] L[j,1] - ...) / L[j,j]
 *
 * in this order, scalar. Returns -1, or the first index whose pivot (the argument of the root) is not
 * above minPivot, or is NaN or infinite; L is then complete to the left of it. Class: exact.
 */
export function choleskyBlock(a: usize, n: usize, aRow: usize, minPivot: f64): i32 {
  const rowBytes = aRow << 3;
  for (let j: usize = 0; j < n; j++) {
    const row = a + j * rowBytes, at = j << 3;
    let pivot = load<f64>(row + at);
    for (let k: usize = 0; k < at; k += 8) {
      const x = load<f64>(row + k);
      pivot -= x * x;
    }
    if (!(pivot > minPivot && pivot < Infinity)) return <i32>j;
    const diagonal = sqrt(pivot);
    store<f64>(row + at, diagonal);
    for (let i = j + 1; i < n; i++) {
      const other = a + i * rowBytes;
      let value = load<f64>(other + at);
      for (let k: usize = 0; k < at; k += 8) value -= load<f64>(other + k) * load<f64>(row + k);
      store<f64>(other + at, value / diagonal);
    }
  }
  return -1;
}
