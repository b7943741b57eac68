/**
 * addRotatedDiagonal: adds a diagonal matrix that was rotated, given by its first row.
 *
 *     h[i,j] += row[i xor j], or its negative if an odd number of bits is set in swap(i) & (i xor j)
 *
 * swap exchanges the bits of every pair. Elements (i, j) of a rotated diagonal matrix are those of its first row at
 * i xor j, or their negatives: the matrix of 4 has elements f(i xor j) / 2, f = 1, 1, 1, -1, and for d = i xor j not 0,
 * f(k xor i) f(k xor j) changes its sign with bit 1 of k and i if d = 1, with bit 0 if d = 2, with their sum if d = 3.
 * Larger ones are its products.
 *
 * Layout: h f64 [size, size], hRow elements from row to row, size a power of 4; row f64 [size]. Any alignment. One element
 * after the other. Class: exact.
 */
export function addRotatedDiagonal(h: usize, row: usize, size: u32, hRow: usize): void {
  for (let i: u32 = 0; i < size; i++) {
    const to = h + (<usize>i * hRow << 3);
    const swapped = (i & 0x55555555) << 1 | (i >> 1) & 0x55555555;
    for (let j: u32 = 0; j < size; j++) {
      const at = to + (<usize>j << 3), place = i ^ j;
      const sign = <u64>(popcnt(swapped & place) & 1) << 63;
      const value = reinterpret<f64>(load<u64>(row + (<usize>place << 3)) ^ sign);
      store<f64>(at, load<f64>(at) + value);
    }
  }
}
