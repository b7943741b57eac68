/** How kernels are called: a part at a time. */

import type { Grid } from "../backend.ts";

/**
 * Elements per call into the module (a power of 4, so that every smaller rotation divides it). The
 * engine first compiles a function without optimising it and replaces it between calls, never within
 * one: a long first call would run some five times slower to its end.
 */
export const CHUNK = 1 << 16;

/** Calls `run` for runs of at most `size` elements of `total`. */
export function forChunks(
  total: number,
  size: number,
  run: (start: number, count: number) => void,
): void {
  for (let start = 0; start < total; start += size) run(start, Math.min(size, total - start));
}

/**
 * Calls `run` for bands of whole groups, of about CHUNK elements: their number of rows, the index of
 * their first element, that of their first scale.
 */
export function forBands(
  grid: Grid,
  run: (rows: number, element: number, group: number) => void,
): void {
  const { rows, cols, groupRows, groupCols } = grid;
  const bandGroups = Math.max(1, Math.floor(CHUNK / Math.max(1, cols * groupRows)));
  forChunks(rows / groupRows, bandGroups, (start, count) => {
    run(count * groupRows, start * groupRows * cols, start * (cols / groupCols));
  });
}

/** Calls `run` for runs of rows of about CHUNK elements: the first, how many, the index of their first element. */
export function forRows(
  rows: number,
  cols: number,
  run: (row: number, rows: number, element: number) => void,
): void {
  const most = Math.max(1, Math.floor(CHUNK / Math.max(1, cols)));
  forChunks(rows, most, (row, count) => run(row, count, row * cols));
}
