/**
 * copyRowsF64: to = from.
 *
 * Layout: to, from f64 [rows, cols], toRow and fromRow elements from row to row, apart from each other. Any alignment.
 * Class: exact (copies).
 */
export function copyRowsF64(
  to: usize, from: usize, rows: usize, cols: usize, toRow: usize, fromRow: usize,
): void {
  for (let i: usize = 0; i < rows; i++) {
    memory.copy(to + (i * toRow << 3), from + (i * fromRow << 3), cols << 3);
  }
}
