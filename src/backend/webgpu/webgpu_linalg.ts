/**
 * The kernels of `LinalgKernels` that a GPU runs, one call at a time: upload, run, download. That is how
 * tests and `doctor` compare them with the others; conversions keep matrices on the device between
 * kernels (`ldlq_rows.ts`).
 *
 * What needs f64 stays on the CPU: WGSL has none.
 */

import { checkGemm, checkHadamard, checkLdlqBlock } from "../../linalg/linalg_checks.ts";
import type { GemmMode, LdlqBlock, LinalgKernels } from "../../linalg/linalg_kernels.ts";
import { extentOf, type MatrixF32 } from "../../linalg/matrix.ts";
import { Batch } from "./batch.ts";
import type { Gpu } from "./device.ts";
import {
  type GpuMatrix,
  LDLQ_WIDTH_MAX,
  recordGemm,
  recordHadamard,
  recordLdlqBlock,
} from "./record_matrix.ts";

/** The kernels that a GPU runs. */
export type GpuLinalgName = "gemmF32" | "ldlqBlock" | "hadamardRows" | "hadamardColumns";

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
    const { rows, cols: width } = args.weights;
    if (width > LDLQ_WIDTH_MAX) {
      throw new RangeError(
        `Cannot run ldlqBlock: ${width} columns, on a GPU at most ${LDLQ_WIDTH_MAX}`,
      );
    }
    const batch = new Batch("ldlqBlock");
    const weights = inputMatrix(batch, "weights", args.weights);
    const rowStride = Math.ceil(width / 4), packed = new Int8Array(rows * rowStride * 4);
    const codes = batch.scratch("codes", packed.byteLength);
    recordLdlqBlock(batch, {
      ...args,
      codes: { slot: codes, start: 0, rowStride },
      weights,
      feedback: inputMatrix(batch, "feedback", args.feedback),
      panel: inputMatrix(batch, "panel", args.panel),
      scales: batch.input("scales", args.scales),
      columnGroups: batch.input("columnGroups", args.columnGroups),
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
