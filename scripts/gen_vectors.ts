/**
 * Writes the golden data of the kernel tests, `tests/vectors/*.json`. Pure arithmetic with pinned
 * seeds: running it again changes nothing.
 *
 *     deno run -A scripts/gen_vectors.ts
 *
 * Expected values do not come from the kernels: small floats from the engine's own Float16 and from
 * powers of two, codes from f64 quotients (which, rounded to f32, are the true f32 quotients), rotations
 * from the recursive definition of the matrix. The exception is `search_scale`: the reference
 * kernel at the time of writing pins the choice, so that a change of candidates is a visible one.
 */

import { Buffer } from "node:buffer";
import fs from "node:fs";
import { referenceKernels } from "../src/backend/reference/reference_kernels.ts";
import { levelVectors } from "./support/level_vectors.ts";

type Packable = Float32Array | Float64Array | Uint8Array | Int8Array | Uint16Array | Uint32Array;

function pack(array: Packable): [string, string] {
  const type = array.constructor.name.replace("Array", "")
    .replace("Float", "f").replace("Uint", "u").replace("Int", "i");
  const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  return [type, bytes.toString("base64")];
}

function write(stem: string, about: string, cases: Record<string, unknown>[]): void {
  const lines = cases.map((item) => "  " + JSON.stringify(item)).join(",\n");
  const text = `{\n"about": ${JSON.stringify(about)},\n"cases": [\n${lines}\n]\n}\n`;
  fs.writeFileSync(new URL(`../tests/vectors/${stem}.json`, import.meta.url), text);
  console.log(`${stem}.json: ${cases.length} cases, ${text.length} bytes`);
}

let state = 20240501;
function uniform(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

/** Near enough to normal, of deviation 1. */
function normal(): number {
  let sum = -6;
  for (let k = 0; k < 12; k++) sum += uniform();
  return sum;
}

function weights(count: number): Float32Array {
  return Float32Array.from({ length: count }, () => normal() * 0.04);
}

function withOutlier(count: number): Float32Array {
  const x = weights(count);
  x[count >> 1] = -1.5;
  return x;
}

/** Halves, so that with scale 1 every second value is a tie. */
const TIES = Float32Array.from({ length: 521 }, (_, k) => (k - 260) / 2);

const SPECIAL = new Float32Array([
  0,
  -0,
  1e-45,
  -1e-45,
  1.1754942e-38,
  1.1754944e-38,
  1e-30,
  -1e-30,
  127.5,
  -127.5,
  128,
  4194304,
  8388608,
  -12582912,
  -12582914,
  1e10,
  -1e10,
  3.4028235e38,
  -3.4028235e38,
  NaN,
  Infinity,
  -Infinity,
]);

interface Shape {
  rows: number;
  cols: number;
  groupRows: number;
  groupCols: number;
}

const SHAPES: [string, Shape][] = [
  ["rows", { rows: 3, cols: 67, groupRows: 1, groupCols: 67 }],
  ["tiles", { rows: 8, cols: 48, groupRows: 4, groupCols: 16 }],
  ["row groups", { rows: 3, cols: 60, groupRows: 1, groupCols: 20 }],
  ["tensor", { rows: 5, cols: 33, groupRows: 5, groupCols: 33 }],
  ["one column", { rows: 7, cols: 1, groupRows: 1, groupCols: 1 }],
  ["no rows", { rows: 0, cols: 16, groupRows: 1, groupCols: 16 }],
];

function groupIndex(shape: Shape, i: number): number {
  const r = Math.floor(i / shape.cols), c = i % shape.cols;
  return Math.floor(r / shape.groupRows) * (shape.cols / shape.groupCols) +
    Math.floor(c / shape.groupCols);
}

function absmaxOf(x: Float32Array, shape: Shape): Float32Array {
  const count = (shape.rows / shape.groupRows) * (shape.cols / shape.groupCols);
  return Float32Array.from({ length: count }, (_, g) =>
    x.reduce(
      (most, value, i) =>
        groupIndex(shape, i) === g && Math.abs(value) > most ? Math.abs(value) : most,
      0,
    ));
}

const scaleOf = (absmax: number) => Math.max(Math.fround(absmax / 127), Math.fround(1e-30));

/** Half-to-even, by the nearest of the two candidates around the value. */
function nearestEven(value: number): number {
  const low = Math.floor(value), high = Math.ceil(value);
  if (value - low === high - value) return low % 2 === 0 ? low : high;
  return value - low < high - value ? low : high;
}

function codeOf(x: number, scale: number): number {
  const t = Math.fround(x / scale);
  return t !== t ? 0 : Math.min(127, Math.max(-127, Math.abs(t) > 200 ? t : nearestEven(t)));
}

/** The run times H_g / sqrt(g), from H_4m = kron(H_m, H4): the outermost stage first, in f32. */
function rotateRun(x: number[]): number[] {
  if (x.length === 1) return x;
  const m = x.length / 4, f = Math.fround;
  const parts = [0, 1, 2, 3].map((k) => x.slice(k * m, (k + 1) * m));
  const mixed: number[][] = [[], [], [], []];
  for (let i = 0; i < m; i++) {
    const [a, b, c, d] = parts.map((part) => part[i]!) as [number, number, number, number];
    const h = f(f(f(a + d) + f(b + c)) / 2);
    [d, c, b, a].forEach((minus, k) => mixed[k]!.push(f(h - minus)));
  }
  return mixed.flatMap(rotateRun);
}

// --- decode
const f16Bits = new Uint16Array([
  0,
  0x8000,
  1,
  0x8001,
  2,
  0x3ff,
  0x400,
  0x401,
  0x83ff,
  0x8400,
  0x3c00,
  0xbc00,
  0x7bff,
  0xfbff,
  0x7c00,
  0xfc00,
  0x7c01,
  0x7e00,
  0xfe00,
  0x7fff,
  ...Array.from({ length: 113 }, () => uniform() * 65536),
]);
const f16View = new DataView(f16Bits.buffer);
const bf16Bits = new Uint16Array([
  0,
  0x8000,
  1,
  0x8001,
  0x7f,
  0x80,
  0x3f80,
  0xbf80,
  0x7f7f,
  0xff7f,
  0x7f80,
  0xff80,
  0x7fc0,
  0x7f81,
  ...Array.from({ length: 119 }, () => uniform() * 65536),
]);
const bf16Expected = new Float32Array(Uint32Array.from(bf16Bits, (bits) => bits * 65536).buffer);
const bytes = Uint8Array.from({ length: 256 }, (_, k) => k);
const doubles = new Float64Array([
  0,
  -0,
  1,
  -1,
  1 + 2 ** -24,
  1 + 2 ** -24 + 2 ** -50,
  1 + 3 * 2 ** -24,
  2 ** -149,
  2 ** -150,
  2 ** -150 * 1.5,
  3.4028235677973366e38,
  3.4028235677973362e38,
  1e39,
  -1e39,
  1e308,
  NaN,
  Infinity,
  -Infinity,
  ...Array.from({ length: 43 }, () => normal()),
]);
const singles = new Float32Array([...SPECIAL, ...weights(39)]);

/** Value of a byte with `mantissaBits` mantissa bits and exponent bias `bias`, as if all were finite. */
function tiny(byte: number, mantissaBits: number, bias: number): number {
  const sign = byte < 128 ? 1 : -1, field = byte % 128, unit = 2 ** mantissaBits;
  const exponent = Math.floor(field / unit), fraction = field % unit / unit;
  return sign *
    (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

const e4m3 = Float32Array.from(bytes, (byte) => byte % 128 === 127 ? NaN : tiny(byte, 3, 7));
const e5m2 = Float32Array.from(bytes, (byte) => {
  const field = byte % 128;
  if (field === 0x7c) return byte < 128 ? Infinity : -Infinity;
  return field > 0x7c ? NaN : tiny(byte, 2, 15);
});
const asBytes = (array: Packable) =>
  new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);
write(
  "decode",
  "out = f32(source), little-endian",
  [
    ["F64", asBytes(doubles), Float32Array.from(doubles)] as const,
    ["F32", asBytes(singles), singles] as const,
    [
      "F16",
      asBytes(f16Bits),
      Float32Array.from(f16Bits, (_, k) => f16View.getFloat16(k * 2, true)),
    ] as const,
    ["BF16", asBytes(bf16Bits), bf16Expected] as const,
    ["F8_E4M3", bytes, e4m3] as const,
    ["F8_E5M2", bytes, e5m2] as const,
  ].map(([dtype, source, out]) => ({ name: dtype, dtype, source: pack(source), out: pack(out) })),
);

// --- cast_f16
const castInput = new Float32Array([
  ...SPECIAL,
  65504,
  65519.996,
  65520,
  -65520,
  65536,
  2 ** -14,
  2 ** -24,
  2 ** -25,
  2 ** -25 * 1.0001,
  3 * 2 ** -25,
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  2 ** -14 - 2 ** -26,
  6.1e-5,
  -6.1e-5,
  ...weights(61),
  ...Array.from({ length: 59 }, () => normal() * 2 ** (uniform() * 50 - 30)),
]);
const halves = new DataView(new ArrayBuffer(2 * castInput.length));
castInput.forEach((value, k) => halves.setFloat16(k * 2, value, true));
write("cast_f16", "out = binary16(x), ties to even; first finite value that becomes infinite", [{
  name: "specials, weights, all magnitudes",
  x: pack(castInput),
  out: pack(new Uint16Array(halves.buffer)),
  first: castInput.findIndex((value) =>
    Number.isFinite(value) && !Number.isFinite(Math.f16round(value))
  ),
}]);

// --- absmax, scale_from_absmax, quantize, dequantize
const gridCases = SHAPES.map(([name, shape]) => {
  const x = withOutlier(shape.rows * shape.cols);
  if (x.length > 40) x.fill(0, 0, shape.cols);
  const absmax = absmaxOf(x, shape), scales = absmax.map(scaleOf);
  const codes = Int8Array.from(x, (value, i) => codeOf(value, scales[groupIndex(shape, i)]!));
  const out = Float32Array.from(codes, (q, i) => q * scales[groupIndex(shape, i)]!);
  return { name, shape, x, absmax, scales, codes, out };
});
write("absmax", "out[g] = max |x| of group g", [
  ...gridCases.map(({ name, shape, x, absmax }) => ({
    name,
    ...shape,
    x: pack(x),
    out: pack(absmax),
  })),
  {
    name: "NaN is ignored, infinity is not",
    rows: 2,
    cols: 5,
    groupRows: 1,
    groupCols: 5,
    x: pack(new Float32Array([NaN, -3, NaN, 2, NaN, 1, -Infinity, NaN, 0, 0])),
    out: pack(new Float32Array([3, Infinity])),
  },
]);
const absmaxes = new Float32Array([
  0,
  1,
  127,
  1e-30,
  1.27e-28,
  1.26e-28,
  1e38,
  3.4028235e38,
  Infinity,
]);
const many = Float32Array.from({ length: 53 }, () => Math.abs(normal()));
write(
  "scale_from_absmax",
  "scale = max(absmax / 127, 1e-30) in f32",
  [absmaxes, many].map((x, k) => ({
    name: k === 0 ? "ends of the range" : "53 values",
    absmax: pack(x),
    scales: pack(x.map(scaleOf)),
  })),
);
const oneRow = (cols: number): Shape => ({ rows: 1, cols, groupRows: 1, groupCols: cols });
const special = [1, 0, 1e-30, NaN, Infinity].map((scale) => ({
  name: `specials by ${scale}`,
  ...oneRow(SPECIAL.length),
  x: pack(SPECIAL),
  scales: pack(new Float32Array([scale])),
  codes: pack(Int8Array.from(SPECIAL, (value) => codeOf(value, Math.fround(scale)))),
}));
write("quantize", "codes = clamp(roundHalfEven(x / scale), -127, 127), NaN 0", [
  ...gridCases.map(({ name, shape, x, scales, codes }) => ({
    name,
    ...shape,
    x: pack(x),
    scales: pack(scales),
    codes: pack(codes),
  })),
  {
    name: "exact ties",
    ...oneRow(TIES.length),
    x: pack(TIES),
    scales: pack(new Float32Array([1])),
    codes: pack(Int8Array.from(TIES, (value) => codeOf(value, 1))),
  },
  ...special,
]);
write(
  "dequantize",
  "out = code * scale in f32",
  gridCases.map(({ name, shape, scales, codes, out }) => ({
    name,
    ...shape,
    codes: pack(codes),
    scales: pack(scales),
    out: pack(out),
  })),
);

// --- search_scale
const searchShapes: [string, Shape, (count: number) => Float32Array][] = [
  ["rows of 1000", { rows: 2, cols: 1000, groupRows: 1, groupCols: 1000 }, weights],
  ["row of 4099", { rows: 1, cols: 4099, groupRows: 1, groupCols: 4099 }, weights],
  ["outlier", { rows: 1, cols: 777, groupRows: 1, groupCols: 777 }, withOutlier],
  ["tiles", { rows: 64, cols: 96, groupRows: 32, groupCols: 48 }, weights],
  ["groups of 20", { rows: 3, cols: 60, groupRows: 1, groupCols: 20 }, weights],
];
write(
  "search_scale",
  "scales shrunk from absmax / 127; pinned by the reference",
  searchShapes.map(
    ([name, shape, make]) => {
      const x = make(shape.rows * shape.cols);
      const start = absmaxOf(x, shape).map(scaleOf), scales = start.slice();
      referenceKernels.searchScale(scales, x, shape);
      return { name, ...shape, x: pack(x), start: pack(start), scales: pack(scales) };
    },
  ),
);

// --- rotate
write(
  "rotate",
  "every run of groupSize times the normalised regular Hadamard matrix",
  [4, 16, 64, 256, 1024]
    .map((groupSize) => {
      const x = withOutlier(groupSize * (groupSize < 256 ? 3 : 1));
      const runs: number[] = [];
      for (let at = 0; at < x.length; at += groupSize) {
        runs.push(...rotateRun([...x.subarray(at, at + groupSize)]));
      }
      return { name: `${groupSize}`, groupSize, x: pack(x), out: pack(new Float32Array(runs)) };
    }),
);

// --- histogram
write(
  "histogram",
  "counts[min(floor(|x| * binsPerUnit), bins - 1)] of zeroed counts",
  [
    { name: "weights", x: withOutlier(203), bins: 32, binsPerUnit: 200 },
    { name: "specials", x: SPECIAL, bins: 5, binsPerUnit: 1 },
  ].map(({ name, x, bins, binsPerUnit }) => {
    const counts = new Uint32Array(bins);
    for (const value of x) {
      const t = Math.fround(Math.abs(value) * binsPerUnit);
      counts[t !== t ? 0 : Math.min(bins - 1, Math.floor(t))]!++;
    }
    return { name, x: pack(x), binsPerUnit, counts: pack(counts) };
  }),
);

// --- error_stats
const original = weights(1337),
  changed = original.map((value) => value + Math.fround(normal() * 1e-3));
const sum = (term: (a: number, b: number) => number) =>
  original.reduce((total, a, i) => total + term(a, changed[i]!), 0);
write("error_stats", "the six STATS of zeroed accumulators; 1e-6 of the sums of squares", [{
  name: "1337 values",
  x: pack(original),
  xhat: pack(changed),
  stats: pack(
    new Float64Array([
      sum((a, b) => (a - b) ** 2),
      sum((a) => a * a),
      sum((_, b) => b * b),
      sum((a, b) => a * b),
      original.reduce((most, a, i) => Math.max(most, Math.abs(Math.fround(a - changed[i]!))), 0),
      original.length,
    ]),
  ),
}]);

// --- count_non_finite
write(
  "count_non_finite",
  "how many NaN and infinities, and the index of the first",
  [
    { name: "specials", x: SPECIAL },
    { name: "none", x: weights(37) },
  ].map(({ name, x }) => ({
    name,
    x: pack(x),
    count: x.filter((value) => !Number.isFinite(value)).length,
    first: x.findIndex((value) => !Number.isFinite(value)),
  })),
);

// --- quantize_levels, round_to_table, round_to_steps, pack_levels
write(
  "levels",
  "sets of groups of columns, the levels of x / scale in them, and their codes as a file has them",
  levelVectors(normal, e4m3).map(({ x, scales, first, choices, codes, packed, ...rest }) => ({
    ...rest,
    x: pack(x),
    scales: pack(scales),
    first: pack(first),
    choices: pack(choices),
    codes: pack(codes),
    packed: pack(packed),
  })),
);

// --- round_floats
write(
  "round_floats",
  "values as floats of few bits, scales of groups searched; pinned by the reference",
  (["e4m3", "e4m3Groups", "e2m1Groups"] as const).map((kind) => {
    const x = Float32Array.from({ length: 256 }, (_, i) => normal() * 2 ** -(i >> 4));
    const isE2m1 = kind === "e2m1Groups", group = kind === "e4m3" ? Infinity : isE2m1 ? 16 : 32;
    const codes = new Uint8Array(isE2m1 ? 128 : 256), groupScales = new Uint8Array(256 / group);
    const scale = kind === "e4m3Groups" ? 1 : 2 ** (isE2m1 ? -10 : -7);
    const rounding = { kind, scale, search: true };
    referenceKernels.roundFloats(codes, groupScales, new Float32Array(256), x, rounding);
    return {
      name: kind,
      kind,
      scale,
      x: pack(x),
      codes: pack(codes),
      group_scales: pack(groupScales),
    };
  }),
);

// --- search_clip
const SHARES = Float32Array.from({ length: 13 }, (_, i) => 1 - i / 20);

/** The scale of least squared error for 15 levels, in f64; no other comes within a hundred-thousandth of it. */
function clippedScale(row: Float32Array): number {
  const reaching = Math.fround(Math.max(...row.map(Math.abs)) / 7);
  const errors = Array.from(SHARES, (share) => {
    const step = reaching * share;
    return row.reduce((sum, value) => {
      const code = Math.max(-7, Math.min(7, nearestEven(value / step)));
      return sum + (value - code * step) ** 2;
    }, 0);
  });
  const least = Math.min(...errors), best = errors.indexOf(least);
  if (errors.some((error, i) => i !== best && error < least * (1 + 1e-5))) {
    throw new Error("Two shares are as good: take other values");
  }
  return Math.fround(reaching * SHARES[best]!);
}

write(
  "search_clip",
  "scales of rows on the integers from -7 to 7: of 13 shares that of least squared error, in f64",
  [["weights", 400], ["two runs of a sum", 2048], ["a part of a run", 1100]].map(
    ([name, count]) => {
      const cols = Number(count), rows = 2, x = new Float32Array(rows * cols);
      for (let r = 0; r < rows; r++) {
        x.set(r % 2 === 0 ? weights(cols) : withOutlier(cols), r * cols);
      }
      const row = (r: number) => x.subarray(r * cols, (r + 1) * cols);
      const each = (of: (row: Float32Array) => number) =>
        Float32Array.from({ length: rows }, (_, r) => of(row(r)));
      return {
        name,
        cols,
        x: pack(x),
        shares: pack(SHARES),
        start: pack(each((values) => Math.fround(Math.max(...values.map(Math.abs)) / 7))),
        scales: pack(each(clippedScale)),
      };
    },
  ),
);
