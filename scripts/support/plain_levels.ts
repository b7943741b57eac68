/**
 * `asym_w4a8_int8` in plain code, for benches: what a stored layer means, and rounding to nearest with scales of groups
 * as comfy-kitchen 0.2.40 finds them (`_quantize_rotated_w4a8_int8_weight`, with the table of its own).
 */

import { f8e4m3ToF32 } from "../../src/core/dtype.ts";

/** The table of 4 bits, as comfy-kitchen has it. */
export const KITCHEN_TABLE: readonly number[] = [
  ...[-0.980602, -0.794529, -0.638165, -0.500986, -0.377321, -0.263187, -0.15521, -0.05072],
  ...[0.052541, 0.156985, 0.265284, 0.379533, 0.502636, 0.638953, 0.794876, 0.980671],
];

const GROUP = 16, PASSES = 2, LEAST = 1e-8;
/** All positive scales of a group: E4M3, from its least to its largest. */
const SCALES = Array.from({ length: 126 }, (_, i) => f8e4m3ToF32(i + 1));

function tableOf(bits: 4 | 6): readonly number[] {
  return bits === 4 ? KITCHEN_TABLE : Array.from({ length: 63 }, (_, i) => i - 31);
}

function roundEven(value: number): number {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** The integer that the runtime multiplies with. */
function decoded(level: number, scale: number): number {
  return Math.max(-127, Math.min(127, roundEven(level * scale)));
}

/** The one of `levels` that is nearest to `value`. */
function nearest(levels: readonly number[], value: number): number {
  return levels.reduce((best, level) =>
    Math.abs(level - value) < Math.abs(best - value) ? level : best
  );
}

/** Returns rotated weights, f64 `[rows, cols]`, rounded to nearest in groups of 16. */
export function kitchenNearest(x: Float64Array, cols: number, bits: 4 | 6): Float64Array {
  const out = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += cols) {
    out.set(kitchenRow(x.subarray(at, at + cols), bits), at);
  }
  return out;
}

function kitchenRow(x: Float64Array, bits: 4 | 6): Float64Array {
  const table = tableOf(bits), groups = x.length / GROUP, out = new Float64Array(x.length);
  const groupOf = (g: number) => [...x.subarray(g * GROUP, (g + 1) * GROUP)];
  const fits = Array.from({ length: groups }, (_, g) => leastSquares(groupOf(g), table));
  const own = Math.max(...fits.map(({ most }) => most / 127), LEAST);
  fits.forEach(({ scale }, g) => {
    const target = groupOf(g).map((value) => value / own);
    let best: readonly number[] = [], least = Infinity;
    for (const s of candidates(scale / own, bits)) {
      const levels = table.map((level) => decoded(level, s));
      const found = target.map((value) => nearest(levels, value));
      const error = found.reduce((sum, level, i) => sum + (level - target[i]!) ** 2, 0);
      if (error < least) [best, least] = [found, error];
    }
    best.forEach((level, i) => out[g * GROUP + i] = level * own);
  });
  return out;
}

/** The scale of a group by alternating least squares, and its largest magnitude then. */
function leastSquares(x: readonly number[], table: readonly number[]) {
  const most = x.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  let scale = Math.max(most / (table.length === 16 ? 1 : 31), LEAST);
  let levels = x.map((value) => nearest(table, value / scale));
  for (let pass = 0; pass < PASSES; pass++) {
    const dot = levels.reduce((sum, level, i) => sum + level * x[i]!, 0);
    const square = levels.reduce((sum, level) => sum + level * level, 0);
    scale = Math.max(dot / Math.max(square, LEAST), LEAST);
    levels = x.map((value) => nearest(table, value / scale));
  }
  return { scale, most: Math.max(...levels.map((level) => Math.abs(level * scale))) };
}

/** The nearest scale of E4M3, with 6 bits also those beside it. */
function candidates(scale: number, bits: 4 | 6): number[] {
  const at = SCALES.indexOf(nearest(SCALES, scale));
  if (bits === 4) return [SCALES[at]!];
  return [at, at - 1, at + 1].map((k) => SCALES[Math.max(0, Math.min(SCALES.length - 1, k))]!);
}

/** Tensors of a stored layer. */
export interface StoredLevels {
  readonly rows: number;
  readonly cols: number;
  readonly weight: Uint8Array;
  readonly groupScales: Uint8Array;
  readonly rowScales: Float32Array;
  readonly table: Float32Array | null;
}

/** Returns the rotated weights of a layer, f64 `[rows, cols]`. */
export function decodedLevels(
  { rows, cols, weight, groupScales, rowScales, table }: StoredLevels,
): Float64Array {
  const rowBytes = weight.length / rows, isSix = rowBytes > cols / 2;
  const groupCols = rows * cols / groupScales.length;
  return Float64Array.from({ length: rows * cols }, (_, i) => {
    const r = Math.floor(i / cols), c = i % cols, at = r * rowBytes;
    const low = (weight[at + (c >> 1)]! >> (4 * (c % 2))) & 15;
    const high = isSix ? (weight[at + cols / 2 + (c >> 2)]! >> (2 * (c % 4))) & 3 : 0;
    const level = isSix ? low + 16 * high - 32 : table?.[low] ?? low - 8;
    return decoded(level, f8e4m3ToF32(groupScales[Math.floor(i / groupCols)]!)) * rowScales[r]!;
  });
}
