/**
 * The linear algebra kernels on WebAssembly SIMD. Views are passed as addresses, so they must lie in the
 * memory the module was instantiated on: take them from an `Arena` of it. One instance per worker, each
 * with a workspace of its own; instances on one memory work at the same time.
 */

import { LEVEL_TABLE } from "../backend.ts";
import {
  checkAddLowRank,
  checkColumnOrder,
  checkCopyRows,
  checkDescendRows,
  checkDivideColumns,
  checkFeedBack,
  checkFeedBackI8,
  checkGemm,
  checkGemmI8,
  checkGramI16,
  checkHadamard,
  checkLdlqBlock,
  checkLdlqLevels,
  checkPackErrors,
  checkPackErrorsI8,
  checkPackFactor,
  checkPackFactorI8,
  checkPermute,
  checkRotatedDiagonal,
  checkRotateF64,
  checkScaleSums,
  checkSolveBlock,
  checkSquare,
  checkUnitLowerPanel,
  checkWeighSquares,
} from "../../linalg/linalg_checks.ts";
import type {
  ByteMatrix,
  DescendRows,
  GemmMode,
  GramI16,
  LdlqBlock,
  LdlqLevels,
  LinalgKernels,
  ShortMatrix,
  ShortRows,
} from "../../linalg/linalg_kernels.ts";
import type { Matrix, MatrixF32, MatrixF64 } from "../../linalg/matrix.ts";
import { type Arena, LINALG_WORKSPACE_BYTES } from "./arena.ts";
import type { FeedBackExport, GemmExport, LinalgExports, ReorderExport } from "./linalg_module.ts";
import { relaxedFeedBack } from "./relaxed_module.ts";
import { instantiate } from "./instantiate.ts";

/** Rows per call of the kernels that go row by row: see CHUNK in wasm_kernels.ts. */
const BAND_ROWS = 64;

const MODE: Readonly<Record<GemmMode, number>> = Object.freeze({ set: 0, add: 1, subtract: 2 });

type View = Float32Array | Float64Array | Int8Array | Uint8Array | Int32Array;

/** {@link LinalgKernels} on WebAssembly. */
export class WasmLinalg implements LinalgKernels {
  readonly name = "wasm";
  readonly #buffer: ArrayBufferLike;
  readonly #exports: LinalgExports;
  readonly #workspace: number;
  readonly #feedBackI8: FeedBackExport;

  /**
   * `module` is that of `compileLinalg()`; `arena` lies in a shared memory that does not grow, and gives
   * LINALG_WORKSPACE_BYTES for as long as the instance is used.
   */
  constructor(module: WebAssembly.Module, arena: Arena) {
    this.#buffer = arena.memory.buffer;
    this.#exports = instantiate<LinalgExports>(module, arena.memory);
    this.#workspace = arena.u8(LINALG_WORKSPACE_BYTES).byteOffset;
    const { feedBackI8 } = this.#exports;
    this.#feedBackI8 = relaxedFeedBack(arena.memory, feedBackI8, this.#workspace) ?? feedBackI8;
  }

  gemmF32(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
    this.#gemm("gemmF32", this.#exports.gemmF32, c, a, b, mode);
  }

  gemmF64(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void {
    this.#gemm("gemmF64", this.#exports.gemmF64, c, a, b, mode);
  }

  gemmF64ByF32(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void {
    this.#gemm("gemmF64ByF32", this.#exports.gemmF64ByF32, c, a, b, mode);
  }

  gemmF32ToF64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
    this.#gemm("gemmF32ToF64", this.#exports.gemmF32ToF64, c, a, b, mode);
  }

  gemmF32F64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
    this.#gemm("gemmF32F64", this.#exports.gemmF32F64, c, a, b, mode);
  }

  gemmI8(out: Int32Array, a: Int8Array, b: Int8Array, m: number, n: number, k: number): void {
    checkGemmI8(out, a, b, m, n, k);
    const to = this.#address("gemmI8", out), left = this.#address("gemmI8", a);
    this.#exports.gemmI8(to, left, this.#address("gemmI8", b), m, n, k, this.#workspace);
  }

  choleskyBlock(a: MatrixF64, minPivot: number): number {
    checkSquare("choleskyBlock", "a", a);
    const at = this.#address("choleskyBlock", a.data);
    return this.#exports.choleskyBlock(at, a.rows, a.rowStride, minPivot);
  }

  solveBlock(x: MatrixF64, l: MatrixF64): void {
    checkSolveBlock(x, l);
    const to = this.#address("solveBlock", x.data), factor = this.#address("solveBlock", l.data);
    forBands(x.rows, (row, rows) => {
      const at = to + row * x.rowStride * 8;
      this.#exports.solveBlock(at, factor, rows, x.cols, x.rowStride, l.rowStride);
    });
  }

  unitLowerPanel(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void {
    checkUnitLowerPanel(out, l, diagonal);
    const name = "unitLowerPanel", to = this.#address(name, out.data);
    const from = this.#address(name, l.data), divisors = this.#address(name, diagonal);
    const { rows, cols, rowStride } = l;
    this.#exports.unitLowerPanel(to, from, divisors, rows, cols, out.rowStride, rowStride);
  }

  divideColumns(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void {
    checkDivideColumns(out, l, diagonal);
    const name = "divideColumns", to = this.#address(name, out.data);
    const from = this.#address(name, l.data), divisors = this.#address(name, diagonal);
    forBands(l.rows, (row, rows) => {
      const own = [to + row * out.rowStride * 4, from + row * l.rowStride * 8, divisors] as const;
      this.#exports.divideColumns(...own, rows, l.cols, out.rowStride, l.rowStride);
    });
  }

  weighSquares(out: Float64Array, x: MatrixF32, weights: Float64Array | null): void {
    checkWeighSquares(out, x, weights);
    const name = "weighSquares", to = this.#address(name, out), from = this.#address(name, x.data);
    const by = weights === null ? 0 : this.#address(name, weights);
    forBands(x.rows, (row, rows) => {
      const at = from + row * x.rowStride * 4;
      this.#exports.weighSquares(to + row * 8, at, by, rows, x.cols, x.rowStride);
    });
  }

  packErrors(out: ShortMatrix, e: MatrixF32): void {
    checkPackErrors(out, e);
    this.#pack("packErrors", [out.pairs, out.scales], e);
  }

  packFactor(out: ShortMatrix, l: MatrixF32): void {
    checkPackFactor(out, l);
    this.#pack("packFactor", [out.pairs, out.scales], l);
  }

  packErrorsI8(out: ByteMatrix, e: MatrixF32): void {
    checkPackErrorsI8(out, e);
    this.#pack("packErrorsI8", [out.quads, out.scales], e);
  }

  packFactorI8(out: ByteMatrix, l: MatrixF32): void {
    checkPackFactorI8(out, l);
    this.#pack("packFactorI8", [out.quads, out.scales], l);
  }

  #pack(
    name: "packErrors" | "packFactor" | "packErrorsI8" | "packFactorI8",
    [numbers, scales]: readonly [Int32Array, Float32Array],
    { data, rows, cols, rowStride }: MatrixF32,
  ): void {
    const to = this.#address(name, numbers), toScales = this.#address(name, scales);
    this.#exports[name](to, toScales, this.#address(name, data), rows, cols, rowStride);
  }

  feedBack(c: MatrixF32, e: ShortMatrix, l: ShortMatrix, terms: number, add: boolean): void {
    checkFeedBack(c, e, l, terms);
    const name = "feedBack", to = this.#address(name, c.data);
    const left = [this.#address(name, e.pairs), this.#address(name, e.scales)] as const;
    const right = [this.#address(name, l.pairs), this.#address(name, l.scales)] as const;
    const sizes = [c.rows, c.cols, terms, c.rowStride] as const;
    this.#exports.feedBack(to, ...left, ...right, ...sizes, add ? 1 : 0);
  }

  feedBackI8(c: MatrixF32, e: ByteMatrix, l: ByteMatrix, terms: number, add: boolean): void {
    checkFeedBackI8(c, e, l, terms);
    const name = "feedBackI8", to = this.#address(name, c.data);
    const left = [this.#address(name, e.quads), this.#address(name, e.scales)] as const;
    const right = [this.#address(name, l.quads), this.#address(name, l.scales)] as const;
    const sizes = [c.rows, c.cols, terms, c.rowStride] as const;
    this.#feedBackI8(to, ...left, ...right, ...sizes, add ? 1 : 0);
  }

  gramI16(h: MatrixF64, x: ShortMatrix, args: GramI16): void {
    checkGramI16(h, x, args);
    const name = "gramI16", to = this.#address(name, h.data);
    const from = this.#address(name, x.pairs), scales = this.#address(name, x.scales);
    const { terms, first, end, factor } = args, add = args.add ? 1 : 0;
    forBands(end - first, (row, rows) => {
      const own = [first + row, first + row + rows] as const;
      this.#exports.gramI16(
        ...[to, from, scales, h.cols, terms, ...own, h.rowStride, factor, add] as const,
        this.#workspace,
      );
    });
  }

  /** What both kernels of LDLQ take of a block, for `rows` of its rows from `row` on. */
  #ldlqArguments(name: string, args: LdlqBlock) {
    const { weights, feedback, panel } = args;
    const codes = this.#address(name, args.codes), x = this.#address(name, weights.data);
    const fed = this.#address(name, feedback.data), factor = this.#address(name, panel.data);
    const scales = this.#address(name, args.scales);
    const columnGroups = this.#address(name, args.columnGroups);
    return (row: number, rows: number) =>
      [
        codes + row * args.codesRowStride,
        x + row * weights.rowStride * 4,
        fed + row * feedback.rowStride * 4,
        factor,
        scales,
        columnGroups,
        rows,
        weights.cols,
        args.codesRowStride,
        weights.rowStride,
        feedback.rowStride,
        panel.rowStride,
        args.firstRow + row,
        args.groupRows,
        args.scaleCols,
      ] as const;
  }

  ldlqBlock(args: LdlqBlock): void {
    checkLdlqBlock(args);
    const band = this.#ldlqArguments("ldlqBlock", args);
    forBands(args.weights.rows, (row, rows) => this.#exports.ldlqBlock(...band(row, rows)));
  }

  ldlqLevels(args: LdlqLevels): void {
    checkLdlqLevels(args);
    const name = "ldlqLevels", band = this.#ldlqArguments(name, args);
    const choices = this.#address(name, args.levels.choices);
    const columnSets = this.#address(name, args.levels.columnSets);
    const nearest = this.#address(name, args.levels.nearest);
    const { across, search = null } = args.levels;
    const lastSet = args.levels.nearest.length / LEVEL_TABLE - 1;
    const first = search === null ? 0 : this.#address(name, search.first);
    const spare = search === null ? 0 : this.#address(name, search.spare);
    forBands(args.weights.rows, (row, rows) => {
      const own = [...band(row, rows), choices, across, columnSets, nearest] as const;
      if (search === null) this.#exports.ldlqLevels(...own);
      else this.#exports.ldlqChosenLevels(...own, first, lastSet, search.groupCols, spare);
    });
  }

  descendRows(args: DescendRows): void {
    checkDescendRows(args);
    const name = "descendRows", { errors, gradient, panel, factors, sums } = args;
    const codes = this.#address(name, args.codes), e = this.#address(name, errors.data);
    const g = this.#address(name, gradient.data), to = this.#address(name, sums.data);
    const totals = this.#address(name, args.totals), p = this.#address(name, panel.data);
    const u = this.#address(name, factors.data), weights = this.#address(name, args.weights);
    const scales = this.#address(name, args.scales);
    const columnGroups = this.#address(name, args.columnGroups);
    forBands(errors.rows, (row, rows) => {
      this.#exports.descendRows(
        codes + row * args.codesRowStride,
        e + row * errors.rowStride * 4,
        g + row * gradient.rowStride * 4,
        to,
        totals,
        p,
        u + row * factors.rowStride * 4,
        weights + row * 4,
        scales,
        columnGroups,
        rows,
        errors.cols,
        gradient.cols,
        sums.cols,
        args.codesRowStride,
        errors.rowStride,
        gradient.rowStride,
        sums.rowStride,
        panel.rowStride,
        factors.rowStride,
        args.offset,
        args.firstRow + row,
        args.groupRows,
        args.scaleCols,
        args.penalty,
      );
    });
  }

  addLowRank(
    x: Float32Array,
    b: Float32Array,
    a: Float32Array,
    shape: { readonly rows: number; readonly cols: number; readonly rank: number },
  ): void {
    checkAddLowRank(x, b, a, shape);
    const { rows, cols, rank } = shape;
    const [xAt, bAt, aAt] = [x, b, a].map((array) => this.#address("addLowRank", array));
    forBands(rows, (row, count) => {
      const change = bAt! + row * rank * 4;
      const out = xAt! + row * cols * 4;
      this.#exports.addLowRank(out, change, aAt!, count, cols, rank, this.#workspace);
    });
  }

  hadamardRows(x: Matrix<Float32Array | Float64Array>): void {
    checkHadamard("hadamardRows", x, x.cols);
    const { hadamardRowsF32, hadamardRowsF64 } = this.#exports;
    const kernel = x.data instanceof Float32Array ? hadamardRowsF32 : hadamardRowsF64;
    const at = this.#address("hadamardRows", x.data), norm = 1 / Math.sqrt(x.cols);
    forBands(x.rows, (row, rows) => {
      const from = at + row * x.rowStride * x.data.BYTES_PER_ELEMENT;
      kernel(from, rows, x.cols, x.rowStride, norm);
    });
  }

  hadamardColumns(x: Matrix<Float32Array | Float64Array>): void {
    checkHadamard("hadamardColumns", x, x.rows);
    const { hadamardColumnsF32, hadamardColumnsF64 } = this.#exports;
    const kernel = x.data instanceof Float32Array ? hadamardColumnsF32 : hadamardColumnsF64;
    const at = this.#address("hadamardColumns", x.data), norm = 1 / Math.sqrt(x.rows);
    forBands(x.cols, (col, cols) => {
      kernel(at + col * x.data.BYTES_PER_ELEMENT, x.rows, cols, x.rowStride, norm);
    });
  }

  gatherColumns(out: ShortRows, x: ShortRows, order: Int32Array): void {
    const { gatherColumnsF32, gatherColumnsI8 } = this.#exports;
    const kernel = out.data instanceof Float32Array ? gatherColumnsF32 : gatherColumnsI8;
    this.#reorder("gatherColumns", kernel, out, x, order);
  }

  scatterColumns(out: ShortRows, x: ShortRows, order: Int32Array): void {
    const { scatterColumnsF32, scatterColumnsI8 } = this.#exports;
    const kernel = out.data instanceof Float32Array ? scatterColumnsF32 : scatterColumnsI8;
    this.#reorder("scatterColumns", kernel, out, x, order);
  }

  #reorder(
    name: string,
    kernel: ReorderExport,
    out: ShortRows,
    x: ShortRows,
    order: Int32Array,
  ): void {
    checkColumnOrder(name, out, x, order);
    const to = this.#address(name, out.data), from = this.#address(name, x.data);
    const places = this.#address(name, order), size = out.data.BYTES_PER_ELEMENT;
    forBands(out.rows, (row, rows) => {
      const own = [to + row * out.rowStride * size, from + row * x.rowStride * size] as const;
      kernel(...own, places, rows, out.cols, out.rowStride, x.rowStride);
    });
  }

  permuteSymmetric(h: MatrixF64, order: Int32Array, spare: Float64Array): void {
    checkPermute(h, order, spare);
    const name = "permuteSymmetric", { rows: n, rowStride } = h;
    const at = this.#address(name, h.data), places = this.#address(name, order);
    const room = this.#address(name, spare);
    this.#exports.permuteRows(at, places, room, n, rowStride);
    forBands(n, (row, rows) => {
      this.#exports.permuteColumns(at + row * rowStride * 8, places, room, rows, n, rowStride);
    });
  }

  copyRows(to: MatrixF64, from: MatrixF64): void {
    checkCopyRows(to, from);
    const out = this.#address("copyRows", to.data), x = this.#address("copyRows", from.data);
    this.#exports.copyRowsF64(out, x, to.rows, to.cols, to.rowStride, from.rowStride);
  }

  addRotatedDiagonal(h: MatrixF64, row: Float64Array): void {
    checkRotatedDiagonal(h, row);
    const name = "addRotatedDiagonal", at = this.#address(name, h.data);
    this.#exports.addRotatedDiagonal(at, this.#address(name, row), h.rows, h.rowStride);
  }

  scaleSums(
    out: Float32Array,
    sums: Int32Array,
    scales: { readonly rowScales: Float32Array; readonly colScales: Float32Array },
    add: boolean,
  ): void {
    checkScaleSums(out, sums, scales);
    const name = "scaleSums", to = this.#address(name, out), from = this.#address(name, sums);
    const left = this.#address(name, scales.rowScales);
    const right = this.#address(name, scales.colScales), cols = scales.colScales.length;
    forBands(scales.rowScales.length, (row, rows) => {
      const own = [to + row * cols * 4, from + row * cols * 4, left + row * 4, right] as const;
      this.#exports.scaleSums(...own, rows, cols, add ? 1 : 0);
    });
  }

  rotateRowsF64(x: MatrixF64, groupSize: number): void {
    checkRotateF64("rotateRowsF64", x, groupSize, x.cols);
    const at = this.#address("rotateRowsF64", x.data);
    forBands(x.rows, (row, rows) => {
      const from = at + row * x.rowStride * 8;
      this.#exports.rotateRowsF64(from, rows, x.cols, x.rowStride, groupSize);
    });
  }

  rotateColumnsF64(x: MatrixF64, groupSize: number): void {
    checkRotateF64("rotateColumnsF64", x, groupSize, x.rows);
    const at = this.#address("rotateColumnsF64", x.data);
    forBands(x.cols, (col, cols) => {
      this.#exports.rotateColumnsF64(at + col * 8, x.rows, cols, x.rowStride, groupSize);
    });
  }

  #gemm(
    kernel: string,
    run: GemmExport,
    c: Matrix<View>,
    a: Matrix<View>,
    b: Matrix<View>,
    mode: GemmMode,
  ): void {
    checkGemm(kernel, c, a, b);
    run(
      this.#address(kernel, c.data),
      this.#address(kernel, a.data),
      this.#address(kernel, b.data),
      c.rows,
      c.cols,
      a.cols,
      c.rowStride,
      a.rowStride,
      a.colStride,
      b.rowStride,
      b.colStride,
      MODE[mode],
      this.#workspace,
    );
  }

  /** Address of `view`. Of an array elsewhere the offset would mean other bytes of this memory. */
  #address(kernel: string, view: View): number {
    if (view.buffer !== this.#buffer) {
      throw new RangeError(
        `Cannot run ${kernel}: an array does not lie in the memory of the kernels`,
      );
    }
    return view.byteOffset;
  }
}

/** Calls `run` for bands of at most BAND_ROWS of `count` rows (or columns). */
function forBands(count: number, run: (start: number, count: number) => void): void {
  for (let start = 0; start < count; start += BAND_ROWS) {
    run(start, Math.min(BAND_ROWS, count - start));
  }
}
