/**
 * Golden data of the kernels of few levels: sets, codes and packed codes, worked out by trying all levels and
 * setting bits one by one.
 */

/** A group of columns chooses among four sets, from the one that `first` names for its largest value downwards. */
export interface LevelVector {
  readonly name: string;
  readonly bits: 4 | 6;
  readonly groupCols: number;
  readonly x: Float32Array;
  readonly scales: Float32Array;
  readonly first: Uint8Array;
  readonly choices: Uint8Array;
  readonly codes: Int8Array;
  readonly packed: Uint8Array;
}

/** The 16 values of `asym_w4a8_int8`, as comfy-kitchen has them. */
const TABLE = [
  ...[-0.980602, -0.794529, -0.638165, -0.500986, -0.377321, -0.263187, -0.15521, -0.05072],
  ...[0.052541, 0.156985, 0.265284, 0.379533, 0.502636, 0.638953, 0.794876, 0.980671],
];
const COLS = 512;

/** Half to even, of what is far below 2^52. */
function roundEven(value: number): number {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** Returns the vectors. @param normal draws numbers. @param e4m3 the 256 values of E4M3. */
export function levelVectors(normal: () => number, e4m3: Float32Array): LevelVector[] {
  return ([4, 6] as const).flatMap((bits) =>
    [16, 64].map((groupCols) => levelVector({ bits, groupCols, normal, e4m3 }))
  );
}

function levelVector({ bits, groupCols, normal, e4m3 }: {
  readonly bits: 4 | 6;
  readonly groupCols: number;
  readonly normal: () => number;
  readonly e4m3: Float32Array;
}): LevelVector {
  const values = bits === 4 ? TABLE : Array.from({ length: 63 }, (_, i) => i - 31);
  const levelsOf = (set: number) =>
    values.map((value) => {
      const level = roundEven(Math.fround(Math.fround(value) * e4m3[set]!));
      return Math.max(-127, Math.min(127, level));
    });
  const scales = Float32Array.of(1, 0.5);
  // Multiples of 1/64 of a scale: ties of units, and values in the middle between levels.
  const x = Float32Array.from({ length: 2 * COLS }, (_, i) => {
    const size = 40 * 2 ** -(Math.floor(i / groupCols) % 6);
    return Math.round(64 * size * normal()) / 64 * scales[Math.floor(i / COLS)]!;
  });
  const first = Uint8Array.from({ length: bits === 4 ? 128 : 256 }, (_, i) => {
    const reach = bits === 4 ? i : (i + 1) / 31;
    return Math.max(3, e4m3.findIndex((scale) => scale >= reach));
  });
  const choices = new Uint8Array(x.length / groupCols), codes = new Int8Array(x.length);
  const packed = new Uint8Array(x.length * bits / 8), rowBytes = COLS * bits / 8;
  choices.forEach((_, g) => {
    const units = Array.from(x.subarray(g * groupCols, (g + 1) * groupCols), (value, k) => {
      const scale = scales[Math.floor((g * groupCols + k) / COLS)]!;
      return Math.max(-8191, Math.min(8191, roundEven(32 * value / scale)));
    });
    const errorOf = (levels: readonly number[]) =>
      units.reduce(
        (sum, u) => sum + (bits === 4 ? wholeError(u, levels) : exactError(u, levels)),
        0,
      );
    const whole = units.map((u) => Math.max(-127, Math.min(127, Math.floor((u + 16) / 32))));
    const most = bits === 4
      ? Math.max(...whole.map(Math.abs))
      : Math.floor(Math.max(...units.map(Math.abs)) / 32);
    const sets = [0, 1, 2, 3].map((k) => first[most]! - k);
    const errors = sets.map((set) => errorOf(levelsOf(set)));
    const set = sets[errors.indexOf(Math.min(...errors))]!, levels = levelsOf(set);
    choices[g] = set;
    units.forEach((u, k) => {
      const i = g * groupCols + k, row = Math.floor(i / COLS) * rowBytes, c = i % COLS;
      const level = nearest(u, levels);
      codes[i] = level;
      const code = codeOf(level, levels);
      for (let bit = 0; bit < bits; bit++) {
        const at = bit < 4 ? row + (c >> 1) : row + COLS / 2 + (c >> 2);
        const place = bit < 4 ? 4 * (c % 2) + bit : 2 * (c % 4) + bit - 4;
        packed[at] = packed[at]! | (code >> bit & 1) << place;
      }
    });
  });
  const name = `${bits} bits, groups of ${groupCols}`;
  return { name, bits, groupCols, x, scales, first, choices, codes, packed };
}

/** The level nearest to a value in 1/32; of two as near the lower one. */
function nearest(u: number, levels: readonly number[]): number {
  const least = Math.min(...levels.map((level) => Math.abs(u - 32 * level)));
  return levels.find((level) => Math.abs(u - 32 * level) === least)!;
}

function exactError(u: number, levels: readonly number[]): number {
  return (u - 32 * nearest(u, levels)) ** 2;
}

/** The same of whole steps, above the middles between levels, rounded down. */
function wholeError(u: number, levels: readonly number[]): number {
  const c = Math.max(-127, Math.min(127, Math.floor((u + 16) / 32)));
  let at = 0;
  while (at < 15 && c > Math.floor((levels[at]! + levels[at + 1]!) / 2)) at++;
  return Math.min((c - levels[at]!) ** 2, 4095);
}

/** The first of 16 codes that stand for a level; of 63 the innermost, from 1 on. */
function codeOf(level: number, levels: readonly number[]): number {
  if (levels.length === 16) return levels.indexOf(level);
  const distance = levels.findIndex((_, j) => levels[31 + j] === Math.abs(level));
  return 32 + (level < 0 ? -distance : distance);
}
