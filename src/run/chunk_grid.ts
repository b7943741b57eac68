/**
 * How matrices are cut into chunks: a chunk is the part of a task that one worker reads, computes and writes
 * in one go. Pure geometry, by the task alone, so that results do not depend on who runs it.
 */

import type { MatrixSource } from "../formats/matrix_source.ts";

/** Elements of one chunk: 2 MiB of BF16. Large enough for the disk, small enough for a cache. */
export const CHUNK_ELEMENTS = 1 << 20;

/** Bytes of one chunk of a plain copy. */
export const COPY_BYTES = 2 << 20;

/** A rectangle of a matrix, in elements; for byte tasks one row of bytes. */
export interface Rect {
  readonly row: number;
  readonly col: number;
  readonly rows: number;
  readonly cols: number;
}

/** How a task is cut: `rowStep x colStep` rectangles, the last ones shorter. */
export interface ChunkGrid {
  readonly rows: number;
  readonly cols: number;
  readonly rowStep: number;
  readonly colStep: number;
  /** The rectangle is one whole scale group that is streamed in segments, because it is too large. */
  readonly streamed: boolean;
}

/** Whole rows, as many as make up `elements`; parts of rows that are longer. */
export function rowGrid(rows: number, cols: number, elements: number): ChunkGrid {
  if (cols > elements) return { rows, cols, rowStep: 1, colStep: elements, streamed: false };
  const rowStep = Math.max(1, Math.floor(elements / Math.max(1, cols)));
  return {
    rows,
    cols,
    rowStep: Math.min(rowStep, Math.max(1, rows)),
    colStep: cols,
    streamed: false,
  };
}

/** The least common multiple. */
export function lcm(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** The rows of a chunk must hold whole rotation groups of everything it is read or stored as. */
export function alignedRowGrid(
  matrices: readonly [MatrixSource, ...{ readonly convrotGroupSize: number | null }[]],
  elements: number = CHUNK_ELEMENTS,
): ChunkGrid {
  const { rows, cols } = matrices[0];
  if (matrices.some((m) => "transform" in m && m.transform !== undefined)) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false };
  }
  const grid = rowGrid(rows, cols, elements);
  if (grid.colStep === cols) return grid;
  const unit = matrices.reduce((unit, m) => lcm(unit, m.convrotGroupSize ?? 1), 1);
  return { ...grid, colStep: Math.max(unit, Math.floor(grid.colStep / unit) * unit) };
}

/** Whole rows always, for products over them; all of a weight that is stored transformed. */
export function wholeRowGrid(
  { rows, cols }: MatrixSource,
  { transform }: MatrixSource,
  elements: number = CHUNK_ELEMENTS,
): ChunkGrid {
  const rowStep = transform !== undefined
    ? rows
    : Math.min(rows, Math.max(1, Math.floor(elements / Math.max(1, cols))));
  return { rows, cols, rowStep: Math.max(1, rowStep), colStep: cols, streamed: false };
}

/** Number of chunks of a grid; 0 for an empty tensor. */
export function chunkCount(grid: ChunkGrid): number {
  if (grid.rows === 0 || grid.cols === 0) return 0;
  return Math.ceil(grid.rows / grid.rowStep) * Math.ceil(grid.cols / grid.colStep);
}

/** Returns chunk `index` of a grid, row-major. */
export function chunkRect(grid: ChunkGrid, index: number): Rect {
  const across = Math.ceil(grid.cols / grid.colStep);
  const row = Math.floor(index / across) * grid.rowStep;
  const col = (index % across) * grid.colStep;
  return {
    row,
    col,
    rows: Math.min(grid.rowStep, grid.rows - row),
    cols: Math.min(grid.colStep, grid.cols - col),
  };
}
