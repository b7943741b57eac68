/**
 * Times the CPU kernels on one thread, in nanoseconds per element: the best of several repetitions on
 * batches of rows that stay in the second-level cache, as the converter works.
 *
 *     deno run -A scripts/bench_kernels.ts [cols] [rows]      default 4096 x 16
 */

import process from "node:process";
import { FLOAT_GROUP_COLS, type Grid, groupCount, STATS_LENGTH } from "../src/backend/backend.ts";
import { Arena, createSharedMemory } from "../src/backend/cpu/arena.ts";
import { WasmKernels } from "../src/backend/cpu/wasm_kernels.ts";
import { compileKernels } from "../src/backend/cpu/wasm_module.ts";
import { groupedLevels, levelTables } from "../src/quant/level_grid.ts";
import { DTYPE_BITS, f32ToBf16, FLOAT_DTYPES } from "../src/core/dtype.ts";

/** Grids of few levels. */
const LEVEL_SCHEMES = [
  ["4 bits, groups of 16", groupedLevels({ bits: 4, groupCols: 16 })],
  ["4 bits, groups of 64", groupedLevels({ bits: 4, groupCols: 64 })],
  ["6 bits, groups of 16", groupedLevels({ bits: 6, groupCols: 16 })],
] as const;

const cols = Number(process.argv[2] ?? 4096), rows = Number(process.argv[3] ?? 16);
const n = rows * cols;
const MEMORY_BYTES = 64 * n + (1 << 22);
const memory = createSharedMemory(MEMORY_BYTES);
const arena = new Arena(memory, 0, MEMORY_BYTES);
const kernels = new WasmKernels(compileKernels(), memory);

const x = arena.f32(n), other = arena.f32(n), codes = arena.i8(n), halves = arena.u16(n);
const source = arena.u8(8 * n), scales = arena.f32(n), counts = arena.u32(1 << 15);
const stats = arena.f64(STATS_LENGTH);
const bf16 = new Uint16Array(memory.buffer, source.byteOffset, n);

/** Sums of 12 uniform values: near enough to weights, and the same every time. */
let state = 1;
function weight(): number {
  let sum = -6;
  for (let k = 0; k < 12; k++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    sum += state / 2 ** 32;
  }
  return sum * 0.02;
}
const values = Float32Array.from({ length: n }, weight);

/** Best time of `run` per element in ns. */
function time(name: string, run: () => void, prepare: () => void = () => {}): number {
  let best = Infinity;
  const until = performance.now() + 300;
  for (let k = 0; k < 20 || performance.now() < until; k++) {
    prepare();
    const start = performance.now();
    run();
    best = Math.min(best, performance.now() - start);
  }
  const ns = best * 1e6 / n;
  console.log(`${name.padEnd(44)}${ns.toFixed(3).padStart(8)} ns/element`);
  return ns;
}

const row: Grid = { rows, cols, groupRows: 1, groupCols: cols };
console.log(`${rows} x ${cols}`);
for (const dtype of FLOAT_DTYPES) {
  source.fill(0x35);
  const bytes = source.subarray(0, n * DTYPE_BITS[dtype] / 8);
  time(`decode ${dtype}`, () => kernels.decode(x, bytes, dtype));
}
for (let i = 0; i < n; i++) bf16[i] = f32ToBf16(values[i]!);
const bf16Bytes = source.subarray(0, 2 * n);
const rowScales = scales.subarray(0, rows);
time("bf16: decode, absmax, scale, quantize", () => {
  kernels.decode(x, bf16Bytes, "BF16");
  kernels.absmax(rowScales, x, row);
  kernels.scaleFromAbsmax(rowScales, rowScales);
  kernels.quantize(codes, x, rowScales, row);
});
time("bf16 rows to codes and errors", () => {
  kernels.quantizeBf16Rows(codes, rowScales, stats, bf16Bytes);
});
for (const group of [256, 1024]) {
  if (cols % group !== 0) continue;
  time(`bf16: decode, rotate ${group}, absmax`, () => {
    kernels.decode(x, bf16Bytes, "BF16");
    kernels.rotate(x, group);
    kernels.absmax(rowScales, x, row);
  });
  time(`bf16 rows rotated by ${group}, and absmax`, () => {
    kernels.rotateBf16Rows(x, rowScales, bf16Bytes, group);
  });
}
x.set(values);
time("countNonFinite", () => kernels.countNonFinite(x));
for (const grid of [row, { ...row, groupRows: 16, groupCols: 128 }, { ...row, groupCols: 64 }]) {
  if (rows % grid.groupRows !== 0 || cols % grid.groupCols !== 0) continue;
  const label = `group ${grid.groupRows} x ${grid.groupCols}`;
  const groupScales = scales.subarray(0, groupCount(grid));
  time(`absmax, ${label}`, () => kernels.absmax(groupScales, x, grid));
  const absmaxScales = () => {
    kernels.absmax(groupScales, x, grid);
    kernels.scaleFromAbsmax(groupScales, groupScales);
  };
  absmaxScales();
  time(`quantize, ${label}`, () => kernels.quantize(codes, x, groupScales, grid));
  const fill = () => x.set(values);
  time(
    `quantizeErrors, ${label}`,
    () => kernels.quantizeErrors(codes, x, stats, groupScales, grid),
    fill,
  );
  time(`codeErrors, ${label}`, () => kernels.codeErrors(x, stats, codes, groupScales, grid), fill);
  x.set(values);
  time(`dequantize, ${label}`, () => kernels.dequantize(other, codes, groupScales, grid));
  time(`searchScale, ${label}`, () => kernels.searchScale(groupScales, x, grid), absmaxScales);
}
for (const kind of ["e4m3", "e4m3Groups", "e2m1Groups"] as const) {
  const packed = source.subarray(0, kind === "e2m1Groups" ? n / 2 : n);
  const groups = arena.u8(n / (FLOAT_GROUP_COLS[kind] ?? Infinity));
  const rounding = { kind, scale: 2 ** -12, search: true };
  time(`roundFloats, ${kind}`, () => kernels.roundFloats(packed, groups, other, x, rounding));
}
{
  const shares = arena.f32(13), rowScales = scales.subarray(0, rows);
  shares.set(Array.from(shares, (_, i) => 1 - 0.05 * i));
  const fill = () => {
    kernels.absmax(rowScales, x, row);
    rowScales.forEach((absmax, r) => rowScales[r] = absmax / 7);
  };
  time("searchClip, 13 shares", () => kernels.searchClip(rowScales, x, shares, cols), fill);
}
for (const [name, scheme] of LEVEL_SCHEMES) {
  const tables = levelTables(scheme, (count) => arena.u8(count));
  const choices = arena.u8(n / 16).subarray(0, n / tables.groupCols);
  const rowScales = scales.subarray(0, rows);
  kernels.absmax(rowScales, x, row);
  kernels.scaleFromAbsmax(rowScales, rowScales);
  kernels.quantize(codes, x, rowScales, row);
  time(`searchLevels, ${name}`, () => kernels.searchLevels(choices, x, rowScales, row, tables));
  const { rounding } = tables;
  if (rounding?.kind === "table") {
    time(
      `roundToTable, ${name}`,
      () => kernels.roundToTable(codes, choices, x, rowScales, row, rounding),
    );
  } else if (rounding?.kind === "steps") {
    time(
      `roundToSteps, ${name}`,
      () => kernels.roundToSteps(codes, choices, x, rowScales, row, rounding),
    );
  }
  const sets = { ...tables, choices };
  time(`quantizeLevels, ${name}`, () => kernels.quantizeLevels(codes, x, rowScales, row, sets));
  const { bits } = scheme, packed = source.subarray(0, n * bits / 8);
  time(
    `packLevels, ${name}`,
    () => kernels.packLevels(packed, codes, { ...sets, rounding, bits, cols }),
  );
}
for (const groupSize of [16, 64, 256, 1024, 4096, 16384]) {
  if (n % groupSize === 0) time(`rotate ${groupSize}`, () => kernels.rotate(x, groupSize));
}
x.set(values);
const most = kernels.rotatedAbsmax(x, 256, 0);
time("rotatedAbsmax 256", () => kernels.rotatedAbsmax(x, 256, most), () => x.set(values));
x.set(values);
time("histogram", () => kernels.histogram(counts, x, counts.length / 0.12));
time("castF16", () => kernels.castF16(halves, x));
time("errorStats", () => kernels.errorStats(stats, x, other));
