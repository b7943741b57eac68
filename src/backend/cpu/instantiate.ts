/**
 * Turns a compiled kernel module into an instance on a shared memory. Kernel modules own no memory: several of
 * them, in several workers, share one. Workers get modules that are compiled, and do without their text.
 */

/** Bytes of one page of WebAssembly memory. */
export const PAGE_BYTES = 65536;

/** Most bytes that a WebAssembly memory holds: 4 GiB. */
export const MEMORY_MAX_BYTES = 65536 * PAGE_BYTES;

/** A kernel that finds sets and their levels. */
export type RoundToLevels = (
  codes: number,
  choices: number,
  x: number,
  scales: number,
  steps: number,
  first: number,
  errors: number,
  rows: number,
  cols: number,
  groupRows: number,
  groupCols: number,
  setCols: number,
) => void;

/** The exports of `asm/index.ts`. Addresses are bytes, counts elements; results are i32. */
export interface KernelExports {
  absmax(
    out: number,
    x: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
  castF16(out: number, x: number, count: number): number;
  codeErrors(
    x: number,
    stats: number,
    codes: number,
    scales: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
  addColumns(sums: number, x: number, rows: number, cols: number): void;
  addSquares(squares: number, x: number, rows: number, cols: number): void;
  multiplyRows(out: number, a: number, b: number, rows: number, cols: number): void;
  weighDifferences(
    out: number,
    weights: number,
    a: number,
    b: number,
    rows: number,
    cols: number,
  ): void;
  /** `b` and `bias`: 0 if there is none. */
  squaredError(a: number, b: number, bias: number, count: number, cols: number): number;
  subtract(out: number, a: number, b: number, count: number): void;
  /** 1 or 0. */
  sameBytes(a: number, b: number, count: number): number;
  countNonFinite(x: number, count: number): number;
  firstNonFinite(x: number, count: number): number;
  decodeBf16(out: number, source: number, count: number): void;
  decodeF16(out: number, source: number, count: number): void;
  decodeF32(out: number, source: number, count: number): void;
  decodeF64(out: number, source: number, count: number): void;
  decodeF8E4m3(out: number, source: number, count: number): void;
  decodeF8E5m2(out: number, source: number, count: number): void;
  dequantize(
    out: number,
    codes: number,
    scales: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
  errorStats(stats: number, x: number, xhat: number, count: number): void;
  histogram(counts: number, x: number, count: number, bins: number, binsPerUnit: number): void;
  packLevels(
    packed: number,
    levels: number,
    choices: number,
    codes: number,
    kind: number,
    steps: number,
    bits: number,
    rows: number,
    cols: number,
    setCols: number,
  ): void;
  quantize(
    codes: number,
    x: number,
    scales: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
  quantizeBf16Rows(
    codes: number,
    scales: number,
    stats: number,
    source: number,
    rows: number,
    cols: number,
  ): void;
  quantizeErrors(
    codes: number,
    x: number,
    stats: number,
    scales: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
  quantizeLevels(
    codes: number,
    x: number,
    scales: number,
    choices: number,
    nearest: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
    setCols: number,
  ): void;
  roundFloats(
    codes: number,
    groupScales: number,
    values: number,
    x: number,
    count: number,
    kind: number,
    scale: number,
    search: number,
  ): void;
  roundToSteps: RoundToLevels;
  roundToTable: RoundToLevels;
  rotate(x: number, count: number, groupSize: number): void;
  rotateBf16Rows(
    x: number,
    largest: number,
    source: number,
    rows: number,
    cols: number,
    groupSize: number,
    add: number,
  ): void;
  rotatedAbsmax(x: number, count: number, groupSize: number, least: number): number;
  scaleFromAbsmax(scales: number, absmax: number, count: number): void;
  searchClip(
    scales: number,
    x: number,
    shares: number,
    candidates: number,
    rows: number,
    cols: number,
  ): void;
  searchLevels(
    choices: number,
    x: number,
    scales: number,
    nearest: number,
    first: number,
    candidates: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
    setCols: number,
  ): void;
  searchScale(
    scales: number,
    x: number,
    rows: number,
    cols: number,
    groupRows: number,
    groupCols: number,
  ): void;
}

/**
 * Returns the exports of `module` working on `memory`, which must be shared. The caller names their
 * type: `instantiate<KernelExports>(compileKernels(), memory)`.
 */
export function instantiate<Exports>(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Exports {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return instance.exports as unknown as Exports;
}
