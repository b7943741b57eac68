/**
 * unitLowerPanel: columns of the unit lower factor, in f32; divideColumns: some of their rows below the diagonal block.
 *
 *     out[i,j] = f32(l[i,j] / diagonal[j])  for i > j;   1 for i = j;   0 for i < j
 *
 * Layout: l f64 [rows, cols] is a block column of L from its diagonal down, rows >= cols, lRow elements
 * from row to row; diagonal f64 [cols] holds its l[j,j]; out f32 [rows, cols], outRow elements from row to
 * row. Any alignment. Tail: the last odd column goes alone. Values above the diagonal in l are not used.
 * A true division in f64, rounded once to f32; NaN and infinity stay. Class: exact.
 * divideColumns: out[i,j] = f32(l[i,j] / diagonal[j]) for all elements, of any rows; the rest is the same.
 */
export function unitLowerPanel(
  out: usize, l: usize, diagonal: usize, rows: usize, cols: usize, outRow: usize, lRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + (i * outRow << 2), from = l + (i * lRow << 3), below = min(i, cols);
    divideRow(to, from, diagonal, below);
    if (i < cols) {
      store<f32>(to + (i << 2), 1);
      memory.fill(to + ((i + 1) << 2), 0, (cols - i - 1) << 2);
    }
  }
}

export function divideColumns(
  out: usize, l: usize, diagonal: usize, rows: usize, cols: usize, outRow: usize, lRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    divideRow(out + (i * outRow << 2), l + (i * lRow << 3), diagonal, cols);
  }
}

function divideRow(out: usize, x: usize, divisors: usize, n: usize): void {
  let j: usize = 0;
  for (; j + 2 <= n; j += 2) {
    const quotients = f64x2.div(v128.load(x + (j << 3)), v128.load(divisors + (j << 3)));
    v128.store64_lane(out + (j << 2), f32x4.demote_f64x2_zero(quotients), 0);
  }
  if (j < n) store<f32>(out + (j << 2), <f32>(load<f64>(x + (j << 3)) / load<f64>(divisors + (j << 3))));
}
