/** Matrices as views: an array and two strides, so that blocks and transposes cost nothing. */

/** Element (i, j) is `data[i * rowStride + j * colStride]`. All sizes in elements. */
export interface Matrix<Data> {
  readonly data: Data;
  readonly rows: number;
  readonly cols: number;
  readonly rowStride: number;
  readonly colStride: number;
}

export type MatrixF32 = Matrix<Float32Array>;
export type MatrixF64 = Matrix<Float64Array>;

/** An array that can be narrowed to a part of itself. */
interface Sliceable {
  readonly length: number;
  subarray(start: number, end?: number): Sliceable;
}

/** Returns `data` as a row-major `rows x cols` matrix whose rows are `rowStride` elements apart. */
export function matrix<Data>(
  data: Data,
  rows: number,
  cols: number,
  rowStride: number = cols,
): Matrix<Data> {
  return { data, rows, cols, rowStride, colStride: 1 };
}

/** Returns the transpose of `m`, on the same data. */
export function transpose<Data>(m: Matrix<Data>): Matrix<Data> {
  return {
    data: m.data,
    rows: m.cols,
    cols: m.rows,
    rowStride: m.colStride,
    colStride: m.rowStride,
  };
}

/**
 * Returns rows `row .. row + rows` and columns `col .. col + cols` of `m`, on the same data.
 *
 * @throws RangeError if they are not within `m`.
 */
export function block<Data extends Sliceable>(
  m: Matrix<Data>,
  row: number,
  col: number,
  rows: number,
  cols: number,
): Matrix<Data> {
  const fits = row >= 0 && col >= 0 && rows >= 0 && cols >= 0 && row + rows <= m.rows &&
    col + cols <= m.cols;
  if (!fits) {
    throw new RangeError(
      `Cannot take block: [${row}, ${col}] + ${rows} x ${cols} is not within ${m.rows} x ${m.cols}`,
    );
  }
  const start = rows === 0 || cols === 0 ? 0 : row * m.rowStride + col * m.colStride;
  return { ...m, data: m.data.subarray(start) as unknown as Data, rows, cols };
}

/** Number of elements of `data` that `m` reaches over: index of its last element, plus one. */
export function extentOf(m: Matrix<unknown>): number {
  if (m.rows === 0 || m.cols === 0) return 0;
  return (m.rows - 1) * m.rowStride + (m.cols - 1) * m.colStride + 1;
}
