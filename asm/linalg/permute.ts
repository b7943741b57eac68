/**
 * gatherColumns, scatterColumns: rows with their columns in another order, and back; permuteRows, permuteColumns:
 * both sides of a square matrix in another order, in place.
 *
 *     gather:  out[i,k] = x[i,order[k]];   scatter: out[i,order[k]] = x[i,k]
 *     permute: h[i,j] = h[order[i],order[j]], rows first
 *
 * Layout: out, x f32 or i8 [rows, cols], outRow and xRow elements from row to row, apart from each other; h f64 [n, n],
 * hRow elements from row to row; order i32, every index once; spare f64 [n], used up. Any alignment. One element after
 * the other. Rows are moved along the cycles of the order, each from its least index on. Class: exact (copies).
 */

export function gatherColumnsF32(
  out: usize, x: usize, order: usize, rows: usize, cols: usize, outRow: usize, xRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + (i * outRow << 2), from = x + (i * xRow << 2);
    for (let k: usize = 0; k < cols; k++) {
      store<i32>(to + (k << 2), load<i32>(from + (<usize>load<u32>(order + (k << 2)) << 2)));
    }
  }
}

export function gatherColumnsI8(
  out: usize, x: usize, order: usize, rows: usize, cols: usize, outRow: usize, xRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + i * outRow, from = x + i * xRow;
    for (let k: usize = 0; k < cols; k++) {
      store<u8>(to + k, load<u8>(from + <usize>load<u32>(order + (k << 2))));
    }
  }
}

export function scatterColumnsF32(
  out: usize, x: usize, order: usize, rows: usize, cols: usize, outRow: usize, xRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + (i * outRow << 2), from = x + (i * xRow << 2);
    for (let k: usize = 0; k < cols; k++) {
      store<i32>(to + (<usize>load<u32>(order + (k << 2)) << 2), load<i32>(from + (k << 2)));
    }
  }
}

export function scatterColumnsI8(
  out: usize, x: usize, order: usize, rows: usize, cols: usize, outRow: usize, xRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const to = out + i * outRow, from = x + i * xRow;
    for (let k: usize = 0; k < cols; k++) {
      store<u8>(to + <usize>load<u32>(order + (k << 2)), load<u8>(from + k));
    }
  }
}

export function permuteRows(h: usize, order: usize, spare: usize, n: usize, hRow: usize): void {
  const bytes = n << 3, stride = hRow << 3;
  for (let start: usize = 0; start < n; start++) {
    let next = placeOf(order, start);
    while (next > start) next = placeOf(order, next);
    if (next < start || placeOf(order, start) === start) continue; // moved already, or in its place
    memory.copy(spare, h + start * stride, bytes);
    let to = start;
    for (next = placeOf(order, to); next !== start; next = placeOf(order, to)) {
      memory.copy(h + to * stride, h + next * stride, bytes);
      to = next;
    }
    memory.copy(h + to * stride, spare, bytes);
  }
}

/** `rows` rows from `h` on. */
export function permuteColumns(
  h: usize, order: usize, spare: usize, rows: usize, n: usize, hRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    const row = h + (i * hRow << 3);
    memory.copy(spare, row, n << 3);
    for (let k: usize = 0; k < n; k++) {
      store<f64>(row + (k << 3), load<f64>(spare + (placeOf(order, k) << 3)));
    }
  }
}

// @ts-ignore: decorator
@inline
function placeOf(order: usize, k: usize): usize {
  return <usize>load<u32>(order + (k << 2));
}
