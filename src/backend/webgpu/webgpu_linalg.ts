/**
 * The kernels of `LinalgKernels` that a GPU runs, one call at a time: upload, run, download. That is how
 * tests and `doctor` compare them with the others; conversions keep matrices on the device between
 * kernels (`ldlq_rows.ts`).
 *
 * What needs f64 stays on the CPU: WGSL has none.
 */

import { checkGemm } from "../../linalg/linalg_checks.ts";
import type { GemmMode, LinalgKernels } from "../../linalg/linalg_kernels.ts";
import { extentOf, type Matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import { Batch, type Slot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { gemmShader, type Storage } from "./gemm_shaders.ts";

/** The kernels that a GPU runs. */
export type GpuLinalgName = "gemmF32";

/** {@link LinalgKernels} with promises, as far as a GPU runs them. Views may lie in any buffer. */
export type AsyncLinalg = {
  readonly [K in GpuLinalgName]: (
    ...args: Parameters<LinalgKernels[K]>
  ) => Promise<ReturnType<LinalgKernels[K]>>;
};

/** A matrix on the device. Sizes and strides in elements. */
export interface GpuMatrix extends Omit<Matrix<Slot>, "data"> {
  readonly slot: Slot;
  /** Index of its first element. */
  readonly start: number;
  readonly storage: Storage;
}

/** Rows and columns of a tile that a workgroup makes. */
const GEMM_TILE = 64;

/**
 * Records a product: C = gain·A·B, C += gain·A·B or C -= gain·A·B. C is f32, its rows are contiguous, and
 * its buffer is not that of A or B.
 */
export function recordGemm(
  batch: Batch,
  c: GpuMatrix,
  { a, b, mode, gain = 1 }: {
    readonly a: GpuMatrix;
    readonly b: GpuMatrix;
    readonly mode: GemmMode;
    readonly gain?: number;
  },
): void {
  const params = {
    m: c.rows,
    n: c.cols,
    k: a.cols,
    cStart: c.start,
    cRow: c.rowStride,
    aStart: a.start,
    aRow: a.rowStride,
    aCol: a.colStride,
    bStart: b.start,
    bRow: b.rowStride,
    bCol: b.colStride,
    addsToC: mode === "set" ? 0 : 1,
    gain: mode === "subtract" ? -gain : gain,
  };
  const tiles = Math.ceil(c.rows / GEMM_TILE) * Math.ceil(c.cols / GEMM_TILE);
  batch.dispatch(gemmShader(a.storage, b.storage), [c.slot, a.slot, b.slot], params, tiles);
}

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
    const [result, left, right] = [c, a, b].map((m, k) => inputMatrix(batch, "CAB"[k]!, m));
    recordGemm(batch, result!, { a: left!, b: right!, mode });
    batch.output(result!.slot, extentView(c));
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
