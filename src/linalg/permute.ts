/** Reordering the columns of a layer, for rounding them in the order of their importance. */

import type { Matrix, MatrixF64 } from "./matrix.ts";

/**
 * Returns the columns in the order of their `importance`, least first, ties by index: LDLQ rounds the last
 * column first, when nothing has been fed back into it yet.
 */
export function actOrder(importance: Float64Array): Int32Array {
  const order = Int32Array.from(importance, (_, j) => j);
  return order.sort((a, b) => importance[a]! - importance[b]! || a - b);
}

/** The same with every `unit` neighbouring columns, which divides them, staying side by side, in order within. */
export function actOrderOfUnits(importance: Float64Array, unit: number): Int32Array {
  if (unit === 1) return actOrder(importance);
  const sums = new Float64Array(importance.length / unit);
  importance.forEach((value, j) => sums[Math.floor(j / unit)]! += value);
  const order = new Int32Array(importance.length);
  actOrder(sums).forEach((first, place) => {
    const own = importance.subarray(first * unit, (first + 1) * unit);
    actOrder(own).forEach((j, i) => order[place * unit + i] = first * unit + j);
  });
  return order;
}

type Numbers = Float32Array | Float64Array | Int8Array;

/** out[i, k] = x[i, order[k]], row-major, without overlap. */
export function gatherColumns(
  out: Matrix<Numbers>,
  x: Matrix<Numbers>,
  order: Int32Array,
): void {
  for (let i = 0; i < x.rows; i++) {
    const to = i * out.rowStride, from = i * x.rowStride;
    for (let k = 0; k < order.length; k++) out.data[to + k] = x.data[from + order[k]!]!;
  }
}

/** out[i, order[k]] = x[i, k], row-major, without overlap: undoes {@link gatherColumns}. */
export function scatterColumns(
  out: Matrix<Numbers>,
  x: Matrix<Numbers>,
  order: Int32Array,
): void {
  for (let i = 0; i < x.rows; i++) {
    const to = i * out.rowStride, from = i * x.rowStride;
    for (let k = 0; k < order.length; k++) out.data[to + order[k]!] = x.data[from + k]!;
  }
}

/**
 * h[i, j] = h[order[i], order[j]] in place: rows are moved along the cycles of the permutation, then
 * every row is gathered.
 *
 * @param spareRow f64 `[n]`, contents used up.
 */
export function permuteSymmetric(h: MatrixF64, order: Int32Array, spareRow: Float64Array): void {
  const { data, rowStride, cols } = h;
  const row = (i: number) => data.subarray(i * rowStride, i * rowStride + cols);
  const moved = new Uint8Array(order.length);
  for (let start = 0; start < order.length; start++) {
    if (moved[start] === 1) continue;
    spareRow.set(row(start));
    let to = start;
    for (; order[to] !== start; to = order[to]!) {
      moved[to] = 1;
      row(to).set(row(order[to]!));
    }
    moved[to] = 1;
    row(to).set(spareRow);
  }
  for (let i = 0; i < h.rows; i++) {
    const from = i * rowStride;
    spareRow.set(row(i));
    for (let k = 0; k < order.length; k++) data[from + k] = spareRow[order[k]!]!;
  }
}
