/**
 * The unit lower factor L̃ of a layer on the device: uploaded once, it rounds any rows of the layer
 * (`ldlq_rows.ts`).
 *
 * The factor itself is made on the CPU. H = L·Lᵀ takes f64: calibration data leaves Hessians whose condition
 * is about 10^6 and more, in f32 pivots come out negative or wrong, and WGSL has no f64. The device gets L̃
 * = L·diag(L)⁻¹ rounded to f32, the same numbers that rounding on the CPU works with.
 *
 * It lies there as block columns of {@link FACTOR_BLOCK} from their diagonal down, one buffer each: a whole
 * factor is more than a buffer may bind on many devices (128 MiB), a block column never is.
 */

import { extentOf, type MatrixF32 } from "../../linalg/matrix.ts";
import { Batch, type ResidentSlot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { type GpuMatrix, gpuMatrix, recordNarrow } from "./record_matrix.ts";
import { createResident } from "./resident.ts";
import { type Storage, storageBytes } from "./storage.ts";

/** Columns of a block column: what is right of it is fed back in one product. */
export const FACTOR_BLOCK = 512;

/** A factor as the CPU has it. */
export interface FactorSource {
  /** Columns of the layer. */
  readonly size: number;
  /** Columns of each block of the diagonal: `size`, or a multiple of 4 that divides it. */
  readonly blockSize: number;
  /** Column k of the factor is column `order[k]` of the layer, within the same block. Null: the same. */
  readonly order: Int32Array | null;
  /**
   * Returns columns `first .. first + width` of L̃, from row `first` to the end of their block: 1 on the
   * diagonal, 0 above it, rows contiguous. Used until the next call.
   */
  column(first: number, width: number): MatrixF32;
}

/** A block column on the device: columns `first .. first + width` of L̃, rows `first .. end`. */
export interface FactorColumn {
  readonly slot: ResidentSlot;
  readonly first: number;
  readonly width: number;
  readonly end: number;
  readonly panel: GpuMatrix;
}

/** A factor on the device, until it is destroyed. */
export class GpuFactor {
  readonly gpu: Gpu;
  readonly size: number;
  /** How the factor is stored; errors that go into products with it are stored alike. */
  readonly storage: Storage;
  readonly order: Int32Array | null;
  /** In the order in which they are needed. */
  readonly columns: readonly FactorColumn[];

  private constructor(
    gpu: Gpu,
    { size, order }: FactorSource,
    storage: Storage,
    columns: readonly FactorColumn[],
  ) {
    this.gpu = gpu;
    this.size = size;
    this.storage = storage;
    this.order = order;
    this.columns = columns;
  }

  /**
   * Uploads a factor.
   *
   * @param storage f32, or 2 bytes per number: half the memory on the device and half the reads, and codes
   * that differ here and there. No feature of the device is needed.
   * @throws RangeError if block sizes do not fit; DeviceError if the device has no room.
   */
  static async upload(
    gpu: Gpu,
    source: FactorSource,
    storage: Storage = "f32",
  ): Promise<GpuFactor> {
    const { size, blockSize } = source;
    const fits = blockSize === size || (size % blockSize === 0 && blockSize % 4 === 0);
    if (size < 1 || !fits) {
      throw new RangeError(`Cannot upload a factor: blocks of ${blockSize} in ${size} columns`);
    }
    if (gpu.failure !== null) throw gpu.failure;
    const columns: FactorColumn[] = [], work: Promise<unknown>[] = [];
    const factor = new GpuFactor(gpu, source, storage, columns);
    let failure: unknown = null;
    try {
      for (const { first, width, end } of blockColumns(source)) {
        const { done, ...on } = uploadColumn(gpu, source.column(first, width), storage, first);
        columns.push({ first, width, end, ...on });
        work.push(done);
      }
    } catch (error) {
      failure = error;
    }
    const outcomes = await Promise.allSettled(work);
    failure ??= outcomes.find((outcome) => outcome.status === "rejected")?.reason ?? null;
    if (failure === null) return factor;
    factor.destroy();
    throw gpu.failure ?? failure;
  }

  /** Bytes that it takes on the device. */
  get bytes(): number {
    return this.columns.reduce((sum, { slot }) => sum + slot.bytes, 0);
  }

  /** Gives its memory back. */
  destroy(): void {
    for (const { slot } of this.columns) slot.buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** The block columns of a factor, from right to left. */
function* blockColumns({ size, blockSize }: FactorSource) {
  for (let end = size; end > 0; end -= blockSize) {
    const start = end - blockSize;
    const last = start + Math.floor((blockSize - 1) / FACTOR_BLOCK) * FACTOR_BLOCK;
    for (let first = last; first >= start; first -= FACTOR_BLOCK) {
      yield { first, width: Math.min(FACTOR_BLOCK, end - first), end };
    }
  }
}

/** Starts to upload one block column; what the view holds has been read when this returns. */
function uploadColumn(
  gpu: Gpu,
  column: MatrixF32,
  storage: Storage,
  first: number,
): { slot: ResidentSlot; panel: GpuMatrix; done: Promise<unknown> } {
  const { rows, cols } = column, label = `factor from column ${first}`;
  const view = column.data.subarray(0, extentOf(column));
  const rowStride = storage === "f32" ? column.rowStride : cols + cols % 2;
  const panel = (slot: ResidentSlot) => gpuMatrix(slot, { rows, cols, rowStride, storage });
  if (storage === "f32") {
    const { slot, created } = createResident(gpu, label, { bytes: view.byteLength, view });
    return { slot, panel: panel(slot), done: created };
  }
  const bytes = rows * rowStride * storageBytes(storage);
  const { slot, created } = createResident(gpu, label, { bytes });
  const batch = new Batch(label);
  const source = gpuMatrix(batch.input("in f32", view), {
    rows,
    cols,
    rowStride: column.rowStride,
  });
  recordNarrow(batch, panel(slot), source, 1);
  return { slot, panel: panel(slot), done: Promise.all([created, batch.run(gpu)]) };
}
