/**
 * How many columns a weight had before it was padded to a power of 2 and transformed, by its values: those of
 * the padding come back as rounding errors, hundreds of times smaller than weights.
 */

/** Rows that are restored: enough that no real column is that small in all of them by chance. */
const ROWS = 4;

/** Energy of a column of rounding errors, as a share of that of a real one, is far below this. */
const SHARE = 1e-2;

/** Columns of layers come in multiples of this. */
const UNIT = 8;

/**
 * Returns the columns of a weight whose transformed codes are `[rows, cols]`.
 *
 * @param codes I8, row-major.
 * @param scaleOf the scale of a row.
 */
export function filledColumns(
  codes: Int8Array,
  { rows, cols, scaleOf }: { rows: number; cols: number; scaleOf: (row: number) => number },
): number {
  const energies = new Float64Array(cols);
  for (let r = 0; r < Math.min(ROWS, rows); r++) {
    const line = new Float64Array(cols);
    for (let p = 0; p < rows; p++) {
      const factor = isOdd(p & r) ? -scaleOf(p) : scaleOf(p);
      for (let k = 0; k < cols; k++) line[k] = line[k]! + factor * codes[p * cols + k]!;
    }
    walshHadamard(line);
    for (let k = 0; k < cols; k++) energies[k] = energies[k]! + line[k]! ** 2;
  }
  const half = energies.slice(0, Math.max(1, cols / 2)).sort();
  const least = SHARE * half[half.length >> 1]!;
  let filled = cols;
  while (filled > cols / 2 + 1 && energies[filled - 1]! < least) filled--;
  return Math.min(cols, Math.ceil(filled / UNIT) * UNIT);
}

function walshHadamard(x: Float64Array): void {
  for (let width = 1; width < x.length; width *= 2) {
    for (let at = 0; at < x.length; at += 2 * width) {
      for (let i = at; i < at + width; i++) {
        const a = x[i]!, b = x[i + width]!;
        x[i] = a + b;
        x[i + width] = a - b;
      }
    }
  }
}

/** Whether a number has an odd count of bits. */
function isOdd(bits: number): boolean {
  let odd = false;
  for (let rest = bits; rest > 0; rest &= rest - 1) odd = !odd;
  return odd;
}
