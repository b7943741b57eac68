/**
 * descendRows: one pass of coordinate descent over the codes of a tile, for a quadratic loss of the error
 * E = code * scale - w. Every code sits on one of the two grid points around its weight; a code moves to
 * the other one if that pays:
 *
 *     d = -s if e > 0 (the code is above its weight), s if e < 0; e = 0: no move
 *     t = d * weights[r]
 *     gain = d * (g + g) + d * (t * panel[j, offset + j])      change of the loss; g is half its gradient
 *     cost = d * (e + e + d)                                   change of e^2
 *     move if gain + penalty * cost < 0 and the new code is within +-127:
 *         code += sign(d); e += d
 *         gradient[r, :] += t * panel[j, :]                    width values
 *         sums[j, :] += d * factors[r, :]                      rank values; rank 0: none
 *         totals += [1, gain, cost]                            in f64
 *
 * for each row r, for j = 0, 1, ... cols - 1, with g = gradient[r, offset + j]. All arithmetic is f32, in
 * this order, except totals.
 *
 * Layout: codes i8 and errors f32 [rows, cols], gradient f32 [rows, width], panel f32 [cols, width],
 * sums f32 [cols, rank], factors f32 [rows, rank], each with its own elements from row to row;
 * weights f32 [rows], totals f64 [3]. The scale of the element is
 * scales[((firstRow + r) / groupRows) * scaleCols + columnGroups[j]], columnGroups i32 [cols]. Any
 * alignment. Tail: the last width mod 4 (rank mod 4) values one by one.
 *
 * A NaN error or gradient moves nothing. Rows depend on those before them through sums only, which no row
 * reads: any split over rows gives the same codes. Class: exact.
 */
export function descendRows(
  codes: usize, errors: usize, gradient: usize, sums: usize, totals: usize,
  panel: usize, factors: usize, weights: usize, scales: usize, columnGroups: usize,
  rows: usize, cols: usize, width: usize, rank: usize,
  codesRow: usize, errorsRow: usize, gradientRow: usize, sumsRow: usize, panelRow: usize,
  factorsRow: usize,
  offset: usize, firstRow: usize, groupRows: usize, scaleCols: usize, penalty: f32,
): void {
  for (let r: usize = 0; r < rows; r++) {
    descendRow(
      codes + r * codesRow, errors + (r * errorsRow << 2), gradient + (r * gradientRow << 2),
      sums, totals, panel, factors + (r * factorsRow << 2), load<f32>(weights + (r << 2)),
      scales + (((firstRow + r) / groupRows) * scaleCols << 2), columnGroups,
      cols, width, rank, sumsRow << 2, panelRow << 2, offset << 2, penalty,
    );
  }
}

/** One row. Strides and offset in bytes. */
function descendRow(
  codes: usize, errors: usize, gradient: usize, sums: usize, totals: usize,
  panel: usize, factors: usize, weight: f32, scales: usize, columnGroups: usize,
  cols: usize, width: usize, rank: usize, sumsRow: usize, panelRow: usize, offset: usize,
  penalty: f32,
): void {
  for (let j: usize = 0; j < cols; j++) {
    const at = j << 2, e = load<f32>(errors + at);
    if (!(e > 0 || e < 0)) continue;
    const s = load<f32>(scales + (<usize>load<i32>(columnGroups + at) << 2));
    const d = e > 0 ? -s : s, t = d * weight;
    const g = load<f32>(gradient + offset + at), h = load<f32>(panel + j * panelRow + offset + at);
    const gain = d * (g + g) + d * (t * h), cost = d * (e + e + d);
    if (!(gain + penalty * cost < 0)) continue;
    const code = <i32>load<i8>(codes + j) + (e > 0 ? -1 : 1);
    if (code < -127 || code > 127) continue;
    store<i8>(codes + j, <i8>code);
    store<f32>(errors + at, e + d);
    addScaled(gradient, panel + j * panelRow, t, width);
    if (rank > 0) addScaled(sums + j * sumsRow, factors, d, rank);
    store<f64>(totals, load<f64>(totals) + 1);
    store<f64>(totals + 8, load<f64>(totals + 8) + <f64>gain);
    store<f64>(totals + 16, load<f64>(totals + 16) + <f64>cost);
  }
}

/** y[i] += a * x[i] */
function addScaled(y: usize, x: usize, a: f32, n: usize): void {
  const factor = f32x4.splat(a);
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const at = i << 2;
    v128.store(y + at, f32x4.add(v128.load(y + at), f32x4.mul(factor, v128.load(x + at))));
  }
  for (; i < n; i++) {
    const at = i << 2;
    store<f32>(y + at, load<f32>(y + at) + a * load<f32>(x + at));
  }
}
