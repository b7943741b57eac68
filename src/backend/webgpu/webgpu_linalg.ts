/**
 * The kernels of `LinalgKernels` that a GPU runs, one call at a time: upload, run, download. That is how
 * tests and `doctor` compare them with the others; conversions keep matrices on the device between
 * kernels (`ldlq_rows.ts`).
 *
 * Work that needs f64 stays: WGSL has none.
 */

import {
  checkAddLowRank,
  checkDescendRows,
  checkFeedBack,
  checkGemm,
  checkGemmI8,
  checkHadamard,
  checkLdlqBlock,
  checkLdlqLevels,
} from "../../linalg/linalg_checks.ts";
import type {
  DescendRows,
  GemmMode,
  LdlqBlock,
  LdlqLevels,
  LinalgKernels,
  ShortMatrix,
} from "../../linalg/linalg_kernels.ts";
import { extentOf, type MatrixF32 } from "../../linalg/matrix.ts";
import { Batch } from "./batch.ts";
import type { Gpu } from "./device.ts";
import {
  addDescentReport,
  descentReportBytes,
  recordDescendRows,
  REPORT_SLOTS,
} from "./record_descent.ts";
import {
  type GpuLdlqBlock,
  type GpuMatrix,
  LDLQ_WIDTH_MAX,
  levelSlots,
  recordGemm,
  recordHadamard,
  recordLdlqBlock,
} from "./record_matrix.ts";
import { recordAddLowRank, recordFeedBack, recordGemmI8 } from "./record_products.ts";

/** The kernels that a GPU runs. */
export type GpuLinalgName =
  | "gemmF32"
  | "gemmI8"
  | "addLowRank"
  | "feedBack"
  | "ldlqBlock"
  | "ldlqLevels"
  | "descendRows"
  | "hadamardRows"
  | "hadamardColumns";

/** {@link LinalgKernels} with promises, as far as a GPU runs them. Views may lie in any buffer. */
export type AsyncLinalg = {
  readonly [K in GpuLinalgName]: (
    ...args: K extends `hadamard${string}` ? [x: MatrixF32] : Parameters<LinalgKernels[K]>
  ) => Promise<ReturnType<LinalgKernels[K]>>;
};

/** The kernels on `gpu`. */
export class WebGpuLinalg implements AsyncLinalg {
  readonly name = "webgpu";
  readonly #gpu: Gpu;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  async gemmF32(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): Promise<void> {
    checkGemm("gemmF32", c, a, b);
    const batch = new Batch("gemmF32");
    const result = inputMatrix(batch, "C", c);
    recordGemm(batch, result, {
      a: inputMatrix(batch, "A", a),
      b: inputMatrix(batch, "B", b),
      mode,
    });
    await this.#finish(batch, result, c);
  }

  /** @throws RangeError for a block of more than {@link LDLQ_WIDTH_MAX} columns. */
  async ldlqBlock(args: LdlqBlock): Promise<void> {
    checkLdlqBlock(args);
    await this.#ldlq("ldlqBlock", args, (batch) => ({
      columnGroups: batch.input("columnGroups", args.columnGroups),
    }));
  }

  /** @throws RangeError for a block of more than {@link LDLQ_WIDTH_MAX} columns. */
  async ldlqLevels(args: LdlqLevels): Promise<void> {
    checkLdlqLevels(args);
    const { columnGroups, levels: { choices, across, columnSets, nearest, search = null } } = args;
    const sets = Uint32Array.from(choices);
    await this.#ldlq("ldlqLevels", args, (batch) => {
      const slot = batch.input("choices", sets);
      if (search !== null) batch.output(slot, sets);
      return {
        columnGroups: batch.input("columnGroups", inPairs(columnGroups, columnSets)),
        levels: { choices: slot, across, ...levelSlots(batch, nearest, search) },
      };
    });
    choices.set(sets);
  }

  /** @param more operands that not both have alike. */
  async #ldlq(
    name: string,
    args: LdlqBlock,
    more: (batch: Batch) => Pick<GpuLdlqBlock, "columnGroups" | "levels">,
  ): Promise<void> {
    const { rows, cols: width } = args.weights;
    if (width > LDLQ_WIDTH_MAX) {
      throw new RangeError(
        `Cannot run ${name}: ${width} columns, on a GPU at most ${LDLQ_WIDTH_MAX}`,
      );
    }
    const batch = new Batch(name);
    const weights = inputMatrix(batch, "weights", args.weights);
    const rowStride = Math.ceil(width / 4), packed = new Int8Array(rows * rowStride * 4);
    const codes = batch.scratch("codes", packed.byteLength);
    const { scaleCols, groupRows, firstRow } = args;
    recordLdlqBlock(batch, {
      ...{ scaleCols, groupRows, firstRow },
      codes: { slot: codes, start: 0, rowStride },
      weights,
      feedback: inputMatrix(batch, "feedback", args.feedback),
      panel: inputMatrix(batch, "panel", args.panel),
      scales: batch.input("scales", args.scales),
      ...more(batch),
      groupsStart: 0,
    });
    batch.output(codes, packed);
    await this.#finish(batch, weights, args.weights);
    for (let r = 0; r < rows; r++) {
      const row = packed.subarray(r * rowStride * 4, r * rowStride * 4 + width);
      args.codes.set(row, r * args.codesRowStride);
    }
  }

  async hadamardRows(x: MatrixF32): Promise<void> {
    checkHadamard("hadamardRows", x, x.cols);
    await this.#hadamard(x, "rows");
  }

  async hadamardColumns(x: MatrixF32): Promise<void> {
    checkHadamard("hadamardColumns", x, x.rows);
    await this.#hadamard(x, "columns");
  }

  async #hadamard(x: MatrixF32, along: "rows" | "columns"): Promise<void> {
    const batch = new Batch(`hadamard of ${along}`);
    const values = inputMatrix(batch, "x", x);
    recordHadamard(batch, values, along);
    await this.#finish(batch, values, x);
  }

  async #finish(batch: Batch, result: GpuMatrix, into: MatrixF32): Promise<void> {
    batch.output(result.slot, extentView(into));
    await batch.run(this.#gpu);
  }

  async gemmI8(
    out: Int32Array,
    a: Int8Array,
    b: Int8Array,
    m: number,
    n: number,
    k: number,
  ): Promise<void> {
    checkGemmI8(out, a, b, m, n, k);
    const batch = new Batch("gemmI8");
    const size = m * n, result = batch.scratch("out", 4 * size);
    const left = { slot: batch.input("a", a.subarray(0, m * k)) };
    const right = { slot: batch.input("b", b.subarray(0, n * k)) };
    recordGemmI8(batch, result, { a: left, b: right, m, n, k });
    batch.output(result, out.subarray(0, size));
    await batch.run(this.#gpu);
  }

  async addLowRank(
    x: Float32Array,
    b: Float32Array,
    a: Float32Array,
    shape: { readonly rows: number; readonly cols: number; readonly rank: number },
  ): Promise<void> {
    checkAddLowRank(x, b, a, shape);
    const batch = new Batch("addLowRank");
    const result = batch.input("x", x);
    recordAddLowRank(batch, result, { b: batch.input("b", b), a: batch.input("a", a), shape });
    batch.output(result, x);
    await batch.run(this.#gpu);
  }

  async feedBack(
    c: MatrixF32,
    e: ShortMatrix,
    l: ShortMatrix,
    terms: number,
    add: boolean,
  ): Promise<void> {
    checkFeedBack(c, e, l, terms);
    const { rows, cols, rowStride } = c;
    const batch = new Batch("feedBack"), result = batch.input("c", extentView(c));
    const short = ({ pairs, scales }: ShortMatrix, name: string) => ({
      pairs: batch.input(`pairs of ${name}`, pairs),
      scales: batch.input(`scales of ${name}`, scales),
    });
    const operands = { e: short(e, "errors"), l: short(l, "factor") };
    recordFeedBack(batch, result, { ...operands, shape: { rows, cols, terms }, rowStride, add });
    batch.output(result, extentView(c));
    await batch.run(this.#gpu);
  }

  async descendRows(args: DescendRows): Promise<void> {
    checkDescendRows(args);
    const { rows, cols } = args.errors, rank = args.sums.cols;
    const batch = new Batch("descendRows");
    const errors = inputMatrix(batch, "errors", args.errors);
    const gradient = inputMatrix(batch, "gradient", args.gradient);
    const panel = inputMatrix(batch, "panel", args.panel);
    const into = inputMatrix(batch, "sums", args.sums);
    const sums = { rank, factors: inputMatrix(batch, "factors", args.factors), into };
    const reach = rows === 0 || cols === 0 ? 0 : (rows - 1) * args.codesRowStride + cols;
    const codesView = args.codes.subarray(0, reach);
    const codes = {
      slot: batch.input("codes", codesView),
      start: 0,
      rowStride: args.codesRowStride,
    };
    const report = batch.zeros("report", descentReportBytes(rows, cols));
    recordDescendRows(batch, {
      ...{ rows, cols, width: args.gradient.cols, codes, report },
      ...{ errors, gradient, panel, sums },
      offset: args.offset,
      weights: batch.input("weights", args.weights),
      weightsStart: 0,
      scales: batch.input("scales", args.scales),
      ...{ scaleCols: args.scaleCols, groupRows: args.groupRows, firstRow: args.firstRow },
      columnGroups: batch.input("columnGroups", args.columnGroups),
      groupsStart: 0,
      penalty: args.penalty,
    });
    const told = new Float32Array(REPORT_SLOTS * rows);
    batch.output(codes.slot, codesView);
    batch.output(errors.slot, extentView(args.errors));
    batch.output(gradient.slot, extentView(args.gradient));
    if (rank > 0) batch.output(into.slot, extentView(args.sums));
    batch.output(report, told);
    await batch.run(this.#gpu);
    addDescentReport(args.totals, told, rows);
  }
}

/** u32: numbers of both, in turn. */
export function inPairs(a: Int32Array, b: Int32Array): Uint32Array {
  return Uint32Array.from({ length: 2 * a.length }, (_, k) => (k % 2 === 0 ? a : b)[k >> 1]!);
}

/** The part of the array of `m` from its first element to its last. */
function extentView(m: MatrixF32): Float32Array {
  return m.data.subarray(0, extentOf(m));
}

/** Uploads `m`, with what lies between its rows. */
function inputMatrix(batch: Batch, label: string, m: MatrixF32): GpuMatrix {
  const { rows, cols, rowStride, colStride } = m;
  const slot = batch.input(label, extentView(m));
  return { slot, start: 0, storage: "f32", rows, cols, rowStride, colStride };
}
