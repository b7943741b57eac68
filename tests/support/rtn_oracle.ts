/**
 * Round to nearest as the contract pins it, written apart from the product: plain loops, f32 by
 * Math.fround. scale = max(absmax / 127, 1e-30), q = clamp(roundHalfEven(w / scale), -127, 127).
 */

/** Codes and scales of one matrix. */
export interface Rtn {
  readonly codes: Int8Array;
  /** Row-major over groups of `groupRows x groupCols`. */
  readonly scales: Float32Array;
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Quantizes `w` (rows x cols, f32 values) with one scale per group. */
export function rtn(
  w: ArrayLike<number>,
  { rows, cols, groupRows, groupCols }: {
    rows: number;
    cols: number;
    groupRows: number;
    groupCols: number;
  },
): Rtn {
  const across = cols / groupCols;
  const absmax = new Float32Array((rows / groupRows) * across);
  const groupOf = (r: number, c: number) =>
    Math.floor(r / groupRows) * across + Math.floor(c / groupCols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const g = groupOf(r, c);
      absmax[g] = Math.max(absmax[g]!, Math.abs(w[r * cols + c]!));
    }
  }
  const scales = absmax.map((a) => Math.max(Math.fround(a / 127), Math.fround(1e-30)));
  const codes = new Int8Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const q = roundHalfEven(Math.fround(w[r * cols + c]! / scales[groupOf(r, c)]!));
      codes[r * cols + c] = Math.min(127, Math.max(-127, q));
    }
  }
  return { codes, scales };
}

/** W · R with the explicit normalised regular Hadamard matrix, per group of `g` columns, in f64. */
export function rotateExplicitly(
  w: ArrayLike<number>,
  { rows, cols, g }: { rows: number; cols: number; g: number },
): Float64Array {
  const h4 = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]];
  const entry = (i: number, j: number): number => {
    let value = 1;
    for (
      let size = g, a = i, b = j;
      size > 1;
      size /= 4, a = Math.floor(a / 4), b = Math.floor(b / 4)
    ) {
      value *= h4[a % 4]![b % 4]!;
    }
    return value / Math.sqrt(g);
  };
  const table = Float64Array.from({ length: g * g }, (_, k) => entry(Math.floor(k / g), k % g));
  const out = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let start = 0; start < cols; start += g) {
      for (let j = 0; j < g; j++) {
        let sum = 0;
        for (let i = 0; i < g; i++) sum += w[r * cols + start + i]! * table[i * g + j]!;
        out[r * cols + start + j] = sum;
      }
    }
  }
  return out;
}
