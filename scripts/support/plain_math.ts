/**
 * Rounding, rotation and errors, written out plainly and sharing nothing with the product: the
 * yardstick that the demonstration holds its results against.
 */

import type { Rows } from "./plain_file.ts";

/** Rows as int8 codes with one scale each, rotated in groups (0: not rotated). */
export interface Codes {
  readonly rows: number;
  readonly cols: number;
  /** Integers, -127..127. */
  readonly codes: Float32Array;
  readonly scales: Float32Array;
  readonly group: number;
}

/** Sums over values and their errors. */
export interface ErrorSums {
  readonly signal: number;
  readonly error: number;
}

/** Returns 20 log10 of signal over error. */
export function sqnrDb({ signal, error }: ErrorSums): number {
  return 10 * Math.log10(signal / error);
}

/** Returns the largest rotation group that divides `cols`, 0 if none does. */
export function rotationGroup(cols: number): number {
  return [256, 64, 16].find((group) => cols % group === 0) ?? 0;
}

/**
 * Returns `x` times the normalised regular Hadamard matrix of size `group`, per run of `group` values.
 * Entry (i, j) of the matrix is the product over the base-4 digits of i and j: -1/2 if the two
 * digits add up to 3, else 1/2. It is its own inverse.
 */
export function rotated(x: Float32Array, group: number): Float32Array {
  if (group === 0) return x;
  let from = new Float64Array(x);
  let to = new Float64Array(x.length);
  for (let stride = 1; stride < group; stride *= 4) {
    for (let start = 0; start < x.length; start += 4 * stride) {
      for (let at = start; at < start + stride; at++) {
        let half = 0;
        for (let digit = 0; digit < 4; digit++) half += 0.5 * from[at + digit * stride]!;
        for (let digit = 0; digit < 4; digit++) {
          to[at + digit * stride] = half - from[at + (3 - digit) * stride]!;
        }
      }
    }
    [from, to] = [to, from];
  }
  return new Float32Array(from);
}

/** Rounds half to even, as the formats do; `Math.round` does not. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Rounds each row to nearest on the grid of its largest value, after rotation by `group`. */
export function roundToNearest({ rows, cols, values }: Rows, group: number): Codes {
  const x = rotated(values, group);
  const codes = new Float32Array(x.length);
  const scales = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    let absmax = 0;
    for (let i = r * cols; i < (r + 1) * cols; i++) absmax = Math.max(absmax, Math.abs(x[i]!));
    const scale = Math.max(Math.fround(absmax / 127), 1e-30);
    scales[r] = scale;
    for (let i = r * cols; i < (r + 1) * cols; i++) {
      codes[i] = Math.max(-127, Math.min(127, roundHalfEven(Math.fround(x[i]! / scale))));
    }
  }
  return { rows, cols, codes, scales, group };
}

/** Returns the values that codes stand for, in the space of the original weight. */
export function dequantized({ rows, cols, codes, scales, group }: Codes): Float32Array {
  const x = new Float32Array(codes.length);
  for (let r = 0; r < rows; r++) {
    for (let i = r * cols; i < (r + 1) * cols; i++) x[i] = codes[i]! * scales[r]!;
  }
  return rotated(x, group);
}

/** Returns the sums over `x` and over its difference from `approximation`. */
export function errorSums(x: Float32Array, approximation: Float32Array): ErrorSums {
  let signal = 0;
  let error = 0;
  for (let i = 0; i < x.length; i++) {
    signal += x[i]! ** 2;
    error += (x[i]! - approximation[i]!) ** 2;
  }
  return { signal, error };
}

/** Returns a · bᵀ, `[a.rows, b.rows]`, row-major. Four rows of `a` at a time: it reads `b` less often. */
function product(a: Rows, b: Rows): Float32Array {
  const out = new Float32Array(a.rows * b.rows);
  const { cols } = a;
  const row = (i: number): Float32Array => a.values.subarray(i * cols, (i + 1) * cols);
  for (let i = 0; i < a.rows; i += 4) {
    const [x0, x1, x2, x3] = [row(i), row(i + 1), row(i + 2), row(i + 3)];
    for (let j = 0; j < b.rows; j++) {
      const y = b.values.subarray(j * cols, (j + 1) * cols);
      const sums = dotFour([x0, x1, x2, x3], y);
      for (let k = 0; k < 4; k++) out[(i + k) * b.rows + j] = sums[k]!;
    }
  }
  return out;
}

type Four<T> = readonly [T, T, T, T];

/** Returns the products of four rows with `y`. */
function dotFour([x0, x1, x2, x3]: Four<Float32Array>, y: Float32Array): Four<number> {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (let k = 0; k < y.length; k++) {
    const value = y[k]!;
    s0 += x0[k]! * value;
    s1 += x1[k]! * value;
    s2 += x2[k]! * value;
    s3 += x3[k]! * value;
  }
  return [s0, s1, s2, s3];
}

/**
 * Returns the relative error of the output of a layer for each way to store it, as ComfyUI computes it
 * (W8A8): activations are rotated as the weight is, rounded per row to int8, and multiplied with codes.
 *
 * @param activations `[T, K]`, T a multiple of 4. @param weight `[N, K]`. @param stored each `[N, K]`.
 */
export function outputErrors(
  activations: Rows,
  weight: Rows,
  stored: readonly Codes[],
): number[] {
  if (activations.rows % 4 !== 0) throw new RangeError("Cannot multiply: T is no multiple of 4");
  const exact = product(activations, weight);
  return stored.map((candidate) => {
    const rounded = roundToNearest(activations, candidate.group);
    const got = product(
      { ...rounded, values: rounded.codes },
      { ...candidate, values: candidate.codes },
    );
    for (let t = 0; t < rounded.rows; t++) {
      for (let n = 0; n < candidate.rows; n++) {
        got[t * candidate.rows + n]! *= rounded.scales[t]! * candidate.scales[n]!;
      }
    }
    const { signal, error } = errorSums(exact, got);
    return Math.sqrt(error / signal);
  });
}

/** Rank of what the activations have in common. */
const RANK = 32;
/** One of this many channels is an outlier channel, and how much larger it is. */
const OUTLIER_CHANNELS = 512;
const OUTLIER_FACTOR = 20;

/**
 * Returns activations `[rows, cols]` as transformers have them: correlated (low rank + noise), a few
 * channels twenty times as large as the rest. The same for the same sizes.
 */
export function syntheticActivations(rows: number, cols: number): Rows {
  let state = (rows * 31 + cols) | 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) * 2 ** -24;
  };
  const normal = () => {
    let sum = -6;
    for (let k = 0; k < 12; k++) sum += uniform();
    return sum;
  };
  const basis = Float32Array.from({ length: RANK * cols }, normal);
  const outliers = new Float32Array(cols).fill(1);
  for (let k = 0; k < Math.max(1, Math.round(cols / OUTLIER_CHANNELS)); k++) {
    outliers[Math.floor(uniform() * cols)] = OUTLIER_FACTOR;
  }
  const values = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    const row = values.subarray(r * cols, (r + 1) * cols);
    for (let c = 0; c < cols; c++) row[c] = 0.5 * normal();
    for (let k = 0; k < RANK; k++) {
      const weight = normal() / Math.sqrt(RANK);
      for (let c = 0; c < cols; c++) row[c]! += weight * basis[k * cols + c]!;
    }
    for (let c = 0; c < cols; c++) row[c]! *= outliers[c]!;
  }
  return { rows, cols, values };
}
