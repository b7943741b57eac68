/**
 * The kernels on WebAssembly SIMD. Views are passed as addresses, so they must lie in the memory the
 * module was instantiated on: take them from an `Arena` of it. One instance per worker; instances on
 * one memory work at the same time.
 */

import { DTYPE_BITS, type FloatDType } from "../../core/dtype.ts";
import {
  type CpuKernels,
  FLOAT_GROUP_COLS,
  type FloatRounding,
  type Grid,
  type LevelPacking,
  type LevelSearch,
  type LevelSets,
  type NonFinite,
  type StepRounding,
  type TableRounding,
} from "../backend.ts";
import {
  checkBf16Rows,
  checkColumns,
  checkDecode,
  checkErrorStats,
  checkGrid,
  checkHistogram,
  checkLevels,
  checkLevelSearch,
  checkPackLevels,
  checkRotate,
  checkRotatedRows,
  checkRoundFloats,
  checkRowSums,
  checkSameLength,
  checkSearchClip,
  checkSquaredError,
  checkStats,
  checkStepRounding,
  checkTableRounding,
  checkWeighed,
} from "../kernel_checks.ts";
import { CHUNK, forBands, forChunks, forRows } from "./calls.ts";
import { instantiate, type KernelExports, type RoundToLevels } from "./instantiate.ts";

/** Kinds of floats, in the order of their numbers in `asm/round_floats.ts`. */
const FLOAT_KINDS: readonly FloatRounding["kind"][] = ["e4m3", "e4m3Groups", "e2m1Groups"];

type View = Float32Array | Float64Array | Uint8Array | Int8Array | Uint16Array | Uint32Array;

/** {@link CpuKernels} on WebAssembly. */
export class WasmKernels implements CpuKernels {
  readonly name = "wasm";
  readonly memory: WebAssembly.Memory;
  readonly #exports: KernelExports;
  readonly #buffer: ArrayBufferLike;

  /** `module` is that of `compileKernels()`; `memory` is shared and does not grow. */
  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory) {
    this.memory = memory;
    this.#buffer = memory.buffer;
    this.#exports = instantiate<KernelExports>(module, memory);
  }

  decode(out: Float32Array, source: Uint8Array, dtype: FloatDType): void {
    checkDecode(out, source, dtype);
    const to = this.#address("decode", out), from = this.#address("decode", source);
    const decode = this.#decoder(dtype);
    const elementBytes = DTYPE_BITS[dtype] / 8;
    forChunks(out.length, CHUNK, (start, count) => {
      decode(to + start * 4, from + start * elementBytes, count);
    });
  }

  countNonFinite(x: Float32Array): NonFinite {
    const from = this.#address("countNonFinite", x);
    const count = this.#exports.countNonFinite(from, x.length);
    return { count, first: count === 0 ? -1 : this.#exports.firstNonFinite(from, x.length) };
  }

  absmax(out: Float32Array, x: Float32Array, grid: Grid): void {
    checkGrid("absmax", grid, { x }, { out });
    const to = this.#address("absmax", out), from = this.#address("absmax", x);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.absmax(to + group * 4, from + at * 4, rows, cols, groupRows, groupCols);
    });
  }

  scaleFromAbsmax(scales: Float32Array, absmax: Float32Array): void {
    checkSameLength("scaleFromAbsmax", scales, absmax);
    const to = this.#address("scaleFromAbsmax", scales);
    const from = this.#address("scaleFromAbsmax", absmax);
    this.#exports.scaleFromAbsmax(to, from, scales.length);
  }

  quantize(codes: Int8Array, x: Float32Array, scales: Float32Array, grid: Grid): void {
    checkGrid("quantize", grid, { codes, x }, { scales });
    const to = this.#address("quantize", codes), from = this.#address("quantize", x);
    const by = this.#address("quantize", scales);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.quantize(
        to + at,
        from + at * 4,
        by + group * 4,
        rows,
        cols,
        groupRows,
        groupCols,
      );
    });
  }

  dequantize(out: Float32Array, codes: Int8Array, scales: Float32Array, grid: Grid): void {
    checkGrid("dequantize", grid, { out, codes }, { scales });
    const to = this.#address("dequantize", out), from = this.#address("dequantize", codes);
    const by = this.#address("dequantize", scales);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.dequantize(
        to + at * 4,
        from + at,
        by + group * 4,
        rows,
        cols,
        groupRows,
        groupCols,
      );
    });
  }

  searchScale(scales: Float32Array, x: Float32Array, grid: Grid): void {
    checkGrid("searchScale", grid, { x }, { scales });
    const to = this.#address("searchScale", scales), from = this.#address("searchScale", x);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.searchScale(to + group * 4, from + at * 4, rows, cols, groupRows, groupCols);
    });
  }

  quantizeLevels(
    codes: Int8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    sets: LevelSets & { readonly choices: Uint8Array },
  ): void {
    const name = "quantizeLevels", { groupCols: setCols } = sets;
    checkGrid(name, grid, { codes, x }, { scales });
    checkLevels(name, grid, sets);
    const to = this.#address(name, codes), from = this.#address(name, x);
    const by = this.#address(name, scales), choices = this.#address(name, sets.choices);
    const nearest = this.#address(name, sets.nearest);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.quantizeLevels(
        to + at,
        from + at * 4,
        by + group * 4,
        choices + at / setCols,
        nearest,
        rows,
        cols,
        groupRows,
        groupCols,
        setCols,
      );
    });
  }

  searchLevels(
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    search: LevelSearch,
  ): void {
    const name = "searchLevels", { groupCols: setCols } = search;
    checkGrid(name, grid, { x }, { scales });
    checkLevelSearch(name, grid, { ...search, choices });
    const to = this.#address(name, choices), from = this.#address(name, x);
    const by = this.#address(name, scales), first = this.#address(name, search.first);
    const nearest = this.#address(name, search.nearest);
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      this.#exports.searchLevels(
        to + at / setCols,
        from + at * 4,
        by + group * 4,
        nearest,
        first,
        search.candidates,
        rows,
        cols,
        groupRows,
        groupCols,
        setCols,
      );
    });
  }

  roundToTable(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: TableRounding,
  ): void {
    checkGrid("roundToTable", grid, { codes, x }, { scales });
    checkTableRounding(grid, choices, rounding);
    this.#roundToLevels("roundToTable", { codes, choices, x, scales }, grid, rounding);
  }

  roundToSteps(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: StepRounding,
  ): void {
    checkGrid("roundToSteps", grid, { codes, x }, { scales });
    checkStepRounding(grid, choices, rounding);
    this.#roundToLevels("roundToSteps", { codes, choices, x, scales }, grid, rounding);
  }

  roundFloats(
    codes: Uint8Array,
    groupScales: Uint8Array,
    values: Float32Array,
    x: Float32Array,
    rounding: FloatRounding,
  ): void {
    checkRoundFloats(codes, groupScales, { values, x }, rounding);
    const name = "roundFloats", { kind, scale, search } = rounding;
    const to = this.#address(name, codes), by = this.#address(name, groupScales);
    const out = this.#address(name, values), from = this.#address(name, x);
    const place = FLOAT_KINDS.indexOf(kind), group = FLOAT_GROUP_COLS[kind] ?? Infinity;
    const codeBytes = kind === "e2m1Groups" ? 1 / 2 : 1;
    forChunks(x.length, CHUNK, (start, count) => {
      const own = [to + start * codeBytes, by + start / group, out + start * 4, from + start * 4];
      const [codes, scales, values, x] = own as [number, number, number, number];
      this.#exports.roundFloats(codes, scales, values, x, count, place, scale, Number(search));
    });
  }

  searchClip(scales: Float32Array, x: Float32Array, shares: Float32Array, cols: number): void {
    checkSearchClip(scales, x, cols);
    const name = "searchClip", count = shares.length;
    const by = this.#address(name, shares);
    const to = this.#address(name, scales), from = this.#address(name, x);
    forBands({ rows: scales.length, cols, groupRows: 1, groupCols: cols }, (rows, at, row) => {
      this.#exports.searchClip(to + row * 4, from + at * 4, by, count, rows, cols);
    });
  }

  packLevels(packed: Uint8Array, levels: Int8Array, packing: LevelPacking): void {
    checkPackLevels(packed, levels, packing);
    const name = "packLevels", { bits, cols, groupCols: setCols, rounding = null } = packing;
    const to = this.#address(name, packed), from = this.#address(name, levels);
    const choices = this.#address(name, packing.choices),
      codes = this.#address(name, packing.codes);
    const kind = rounding === null ? 0 : rounding.kind === "table" ? 1 : 2;
    const steps = rounding === null ? 0 : this.#address(name, rounding.steps);
    forBands({ rows: levels.length / cols, cols, groupRows: 1, groupCols: cols }, (rows, at) => {
      const views = [to + at * bits / 8, from + at, choices + at / setCols, codes] as const;
      this.#exports.packLevels(...views, kind, steps, bits, rows, cols, setCols);
    });
  }

  rotate(x: Float32Array, groupSize: number): void {
    checkRotate(x, groupSize);
    const at = this.#address("rotate", x);
    forChunks(x.length, Math.max(groupSize, CHUNK), (start, count) => {
      this.#exports.rotate(at + start * 4, count, groupSize);
    });
  }

  rotateBf16Rows(
    x: Float32Array,
    largest: Float32Array,
    source: Uint8Array,
    groupSize: number,
    add = false,
  ): void {
    const name = "rotateBf16Rows";
    const { cols } = checkRotatedRows({ x, largest, source, groupSize });
    if (x.length === 0) {
      largest.fill(0);
      return;
    }
    const to = this.#address(name, x), most = this.#address(name, largest);
    const from = this.#address(name, source);
    const grid = { rows: largest.length, cols, groupRows: 1, groupCols: cols };
    forBands(grid, (rows, at, row) => {
      const own = [to + at * 4, most + row * 4, from + at * 2] as const;
      this.#exports.rotateBf16Rows(...own, rows, cols, groupSize, add ? 1 : 0);
    });
  }

  rotatedAbsmax(x: Float32Array, groupSize: number, least: number): number {
    checkRotate(x, groupSize);
    const at = this.#address("rotatedAbsmax", x);
    let largest = Math.fround(least);
    forChunks(x.length, Math.max(groupSize, CHUNK), (start, count) => {
      largest = this.#exports.rotatedAbsmax(at + start * 4, count, groupSize, largest);
    });
    return largest;
  }

  histogram(counts: Uint32Array, x: Float32Array, binsPerUnit: number): void {
    checkHistogram(counts);
    const to = this.#address("histogram", counts), from = this.#address("histogram", x);
    forChunks(x.length, CHUNK, (start, count) => {
      this.#exports.histogram(to, from + start * 4, count, counts.length, binsPerUnit);
    });
  }

  castF16(out: Uint16Array, x: Float32Array): number {
    checkSameLength("castF16", out, x);
    const to = this.#address("castF16", out), from = this.#address("castF16", x);
    let first = -1;
    forChunks(x.length, CHUNK, (start, count) => {
      const at = this.#exports.castF16(to + start * 2, from + start * 4, count);
      if (at >= 0 && first < 0) first = start + at;
    });
    return first;
  }

  errorStats(stats: Float64Array, x: Float32Array, xhat: Float32Array): void {
    checkErrorStats(stats, x, xhat);
    const to = this.#address("errorStats", stats), from = this.#address("errorStats", x);
    const other = this.#address("errorStats", xhat);
    forChunks(x.length, CHUNK, (start, count) => {
      this.#exports.errorStats(to, from + start * 4, other + start * 4, count);
    });
  }

  quantizeErrors(
    codes: Int8Array,
    x: Float32Array,
    stats: Float64Array,
    scales: Float32Array,
    grid: Grid,
  ): void {
    const name = "quantizeErrors", { cols, groupRows, groupCols } = grid;
    checkGrid(name, grid, { codes, x }, { scales });
    checkStats(name, stats);
    const to = this.#address(name, codes), from = this.#address(name, x);
    const sums = this.#address(name, stats), by = this.#address(name, scales);
    forBands(grid, (rows, at, group) => {
      const arrays = [to + at, from + at * 4, sums, by + group * 4] as const;
      this.#exports.quantizeErrors(...arrays, rows, cols, groupRows, groupCols);
    });
  }

  codeErrors(
    x: Float32Array,
    stats: Float64Array,
    codes: Int8Array,
    scales: Float32Array,
    grid: Grid,
  ): void {
    const name = "codeErrors", { cols, groupRows, groupCols } = grid;
    checkGrid(name, grid, { codes, x }, { scales });
    checkStats(name, stats);
    const to = this.#address(name, x), sums = this.#address(name, stats);
    const from = this.#address(name, codes), by = this.#address(name, scales);
    forBands(grid, (rows, at, group) => {
      const arrays = [to + at * 4, sums, from + at, by + group * 4] as const;
      this.#exports.codeErrors(...arrays, rows, cols, groupRows, groupCols);
    });
  }

  quantizeBf16Rows(
    codes: Int8Array,
    scales: Float32Array,
    stats: Float64Array,
    source: Uint8Array,
  ): void {
    const name = "quantizeBf16Rows";
    const { cols } = checkBf16Rows({ codes, scales, stats, source });
    if (codes.length === 0) return;
    const to = this.#address(name, codes), by = this.#address(name, scales);
    const sums = this.#address(name, stats), from = this.#address(name, source);
    const grid = { rows: scales.length, cols, groupRows: 1, groupCols: cols };
    forBands(grid, (rows, at, row) => {
      this.#exports.quantizeBf16Rows(to + at, by + row * 4, sums, from + at * 2, rows, cols);
    });
  }

  addColumns(sums: Float64Array, x: Float32Array): void {
    this.#addUp("addColumns", sums, x);
  }

  addSquares(squares: Float64Array, x: Float32Array): void {
    this.#addUp("addSquares", squares, x);
  }

  multiplyRows(out: Float64Array, a: Float32Array, b: Float32Array): void {
    const name = "multiplyRows", cols = checkRowSums(name, out, { a, b });
    const to = this.#address(name, out), left = this.#address(name, a);
    const right = this.#address(name, b);
    forRows(out.length, cols, (row, rows, at) => {
      this.#exports.multiplyRows(to + row * 8, left + at * 4, right + at * 4, rows, cols);
    });
  }

  weighDifferences(
    out: Float64Array,
    weights: Float64Array,
    a: Float32Array,
    b: Float32Array,
  ): void {
    const name = "weighDifferences", cols = checkWeighed(out, weights, { a, b });
    const to = this.#address(name, out), by = this.#address(name, weights);
    const left = this.#address(name, a), right = this.#address(name, b);
    forRows(out.length, cols, (row, rows, at) => {
      const own = [to + row * 8, by, left + at * 4, right + at * 4] as const;
      this.#exports.weighDifferences(...own, rows, cols);
    });
  }

  squaredError(a: Float32Array, b: Float32Array | null, bias: Float32Array | null): number {
    checkSquaredError(a, b, bias);
    const name = "squaredError", from = this.#address(name, a);
    const other = b === null ? 0 : this.#address(name, b);
    const added = bias === null ? 0 : this.#address(name, bias);
    return this.#exports.squaredError(from, other, added, a.length, bias?.length ?? 1);
  }

  subtract(out: Float32Array, a: Float32Array, b: Float32Array): void {
    const name = "subtract";
    checkSameLength(name, out, a);
    checkSameLength(name, out, b);
    const [to, left] = [this.#address(name, out), this.#address(name, a)];
    this.#exports.subtract(to, left, this.#address(name, b), out.length);
  }

  haveSameBytes(a: Uint8Array, b: Uint8Array): boolean {
    const left = this.#address("haveSameBytes", a), right = this.#address("haveSameBytes", b);
    return a.length === b.length && this.#exports.sameBytes(left, right, a.length) === 1;
  }

  #addUp(name: "addColumns" | "addSquares", sums: Float64Array, x: Float32Array): void {
    const rows = checkColumns(name, sums, x), cols = sums.length, run = this.#exports[name];
    const to = this.#address(name, sums), from = this.#address(name, x);
    forRows(rows, cols, (_, count, at) => run(to, from + at * 4, count, cols));
  }

  #roundToLevels(
    name: "roundToTable" | "roundToSteps",
    views: Record<"codes" | "choices" | "x" | "scales", View>,
    grid: Grid,
    rounding: TableRounding | StepRounding,
  ): void {
    const run: RoundToLevels = this.#exports[name], { groupCols: setCols } = rounding;
    const codes = this.#address(name, views.codes), choices = this.#address(name, views.choices);
    const x = this.#address(name, views.x), scales = this.#address(name, views.scales);
    const steps = this.#address(name, rounding.steps), first = this.#address(name, rounding.first);
    const errors = "errors" in rounding ? this.#address(name, rounding.errors) : 0;
    forBands(grid, (rows, at, group) => {
      const { cols, groupRows, groupCols } = grid;
      const own = [codes + at, choices + at / setCols, x + at * 4, scales + group * 4] as const;
      run(...own, steps, first, errors, rows, cols, groupRows, groupCols, setCols);
    });
  }

  #decoder(dtype: FloatDType): KernelExports["decodeF32"] {
    switch (dtype) {
      case "F64":
        return this.#exports.decodeF64;
      case "F32":
        return this.#exports.decodeF32;
      case "F16":
        return this.#exports.decodeF16;
      case "BF16":
        return this.#exports.decodeBf16;
      case "F8_E4M3":
        return this.#exports.decodeF8E4m3;
      case "F8_E5M2":
        return this.#exports.decodeF8E5m2;
    }
  }

  /** The address of `view`; as an i32 parameter one beyond 2 GiB wraps to the same bits. */
  #address(kernel: string, view: View): number {
    if (view.buffer !== this.#buffer) {
      throw new RangeError(
        `Cannot run ${kernel}: an array does not lie in the memory of the kernels`,
      );
    }
    return view.byteOffset;
  }
}
