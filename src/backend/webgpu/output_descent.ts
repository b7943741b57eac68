/**
 * Coordinate descent on the device for the error of outputs, tr(E H Eᵀ): what `quant/learned/output.ts` does
 * with the kernels of the CPU. The second moments H are uploaded once per layer; for some rows of it half
 * the gradient, E·H, stays on the device. Codes and errors of a panel go up with each step and come back
 * changed: 5 bytes per element each way, so that the caller has them at any time.
 *
 * Moves are those of the CPU, as `descend_rows.wgsl` is exact, for the same gradient. The gradient is a
 * product in f32, which a device may add up otherwise; gains are summed up in f32 per row. Rates and
 * penalties follow the loss, so that a code may differ here and there.
 */

import type { Grid } from "../backend.ts";
import { Batch, type ResidentSlot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import {
  addDescentReport,
  descentReportBytes,
  recordDescendRows,
  REPORT_SLOTS,
} from "./record_descent.ts";
import { gpuBlock, gpuMatrix, recordGemm } from "./record_matrix.ts";
import { createResident } from "./resident.ts";

/** Second moments on the device: square blocks along the diagonal, one below the other. */
export class GpuMoments {
  readonly gpu: Gpu;
  readonly size: number;
  /** Divides `size`. */
  readonly blockSize: number;
  /** f32 `[size, blockSize]`. */
  readonly slot: ResidentSlot;

  private constructor(gpu: Gpu, size: number, blockSize: number, slot: ResidentSlot) {
    this.gpu = gpu;
    this.size = size;
    this.blockSize = blockSize;
    this.slot = slot;
  }

  /**
   * Uploads `values`, f32 `[size, blockSize]`.
   *
   * @throws RangeError if sizes do not fit; DeviceError if the device has no room.
   */
  static async upload(
    gpu: Gpu,
    { size, blockSize, values }: {
      readonly size: number;
      readonly blockSize: number;
      readonly values: Float32Array;
    },
  ): Promise<GpuMoments> {
    if (size % blockSize !== 0 || values.length !== size * blockSize) {
      throw new RangeError(
        `Cannot upload moments: ${values.length} values, ${size} columns in blocks of ${blockSize}`,
      );
    }
    return new GpuMoments(gpu, size, blockSize, await keep(gpu, "second moments", values));
  }

  destroy(): void {
    this.slot.buffer.destroy();
  }
}

/** Keeps the bytes of `content` on the device, or room for as many as it says. */
async function keep(
  gpu: Gpu,
  label: string,
  content: ArrayBufferView | number,
): Promise<ResidentSlot> {
  const isRoom = typeof content === "number";
  const { slot, created } = createResident(gpu, label, {
    bytes: isRoom ? content : content.byteLength,
    view: isRoom ? null : content,
  });
  try {
    await created;
  } catch (error) {
    slot.buffer.destroy();
    throw error;
  }
  return slot;
}

/** Rows of a layer. */
export interface DescentRows {
  /** `cols` is the size of the moments. */
  readonly grid: Grid;
  /** f32, one per group. */
  readonly scales: Float32Array;
  /** i32 `[cols]`: the group that each column is in. */
  readonly columnGroups: Int32Array;
}

/** Columns `first .. first + cols` of the rows. */
export interface DescentPanel {
  readonly first: number;
  readonly cols: number;
  /** In and out: i8 `[rows, cols]`, contiguous. */
  readonly codes: Int8Array;
  /** In and out: f32 `[rows, cols]`, contiguous: code * scale - weight. */
  readonly errors: Float32Array;
  /** Weight of the squared error beside the loss. */
  readonly penalty: number;
  /** In and out, f64 `[3]`: grows by the moves, and by what they change loss and squared error by. */
  readonly totals: Float64Array;
}

/** Some rows of a layer whose codes are being moved. */
export class OutputDescent {
  readonly #moments: GpuMoments;
  readonly #grid: Grid;
  readonly #kept: readonly ResidentSlot[];
  readonly #gradient: ResidentSlot;
  readonly #scales: ResidentSlot;
  readonly #columnGroups: ResidentSlot;
  readonly #weights: ResidentSlot;

  private constructor(moments: GpuMoments, grid: Grid, kept: readonly ResidentSlot[]) {
    this.#moments = moments;
    this.#grid = grid;
    this.#kept = kept;
    const [gradient, scales, columnGroups, weights] = kept;
    this.#gradient = gradient!;
    this.#scales = scales!;
    this.#columnGroups = columnGroups!;
    this.#weights = weights!;
  }

  /** Takes 4 bytes per element on the device. The gradient is not known before {@link measure}. */
  static async open(moments: GpuMoments, rows: DescentRows): Promise<OutputDescent> {
    const { gpu, size } = moments, { grid, scales, columnGroups } = rows;
    if (grid.cols !== size || columnGroups.length !== size) {
      throw new RangeError(
        `Cannot descend: ${grid.cols} columns, ${columnGroups.length} of which have a group, the ` +
          `moments have ${size}`,
      );
    }
    const made = await Promise.allSettled([
      keep(gpu, "gradient", 4 * grid.rows * grid.cols),
      keep(gpu, "scales", scales),
      keep(gpu, "column groups", columnGroups),
      keep(gpu, "row weights", new Float32Array(grid.rows).fill(1)),
    ]);
    const kept = made.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
    if (kept.length === made.length) return new OutputDescent(moments, grid, kept);
    for (const { buffer } of kept) buffer.destroy();
    throw made.find((one) => one.status === "rejected")!.reason;
  }

  /**
   * Works half the gradient out from all errors, f32 `[rows, cols]`, and copies it to `into`. The loss is
   * the sum of the products of both.
   */
  async measure(errors: Float32Array, into: Float32Array): Promise<void> {
    const { gpu, size, blockSize, slot } = this.#moments, { rows } = this.#grid;
    const batch = new Batch("gradient of outputs");
    const e = gpuMatrix(batch.input("errors", errors), { rows, cols: size });
    const gradient = gpuMatrix(this.#gradient, { rows, cols: size });
    const h = gpuMatrix(slot, { rows: size, cols: blockSize });
    for (let first = 0; first < size; first += blockSize) {
      recordGemm(batch, gpuBlock(gradient, 0, first, rows, blockSize), {
        a: gpuBlock(e, 0, first, rows, blockSize),
        b: gpuBlock(h, first, 0, blockSize, blockSize),
        mode: "set",
      });
    }
    batch.output(this.#gradient, into);
    await batch.run(gpu);
  }

  /** Moves codes of a panel to the other side of their weights if loss + penalty * cost falls. */
  async descend({ first, cols, codes, errors, penalty, totals }: DescentPanel): Promise<void> {
    const { gpu, size, blockSize, slot } = this.#moments, { rows } = this.#grid;
    const { groupRows, groupCols } = this.#grid;
    const batch = new Batch(`columns ${first} to ${first + cols - 1}`);
    const codeSlot = batch.input("codes", codes), errorSlot = batch.input("errors", errors);
    const report = batch.zeros("report", descentReportBytes(rows, cols));
    for (let col = first; col < first + cols;) {
      // No part reaches over the end of a block.
      const count = Math.min(blockSize - col % blockSize, first + cols - col);
      const left = col - col % blockSize;
      recordDescendRows(batch, {
        ...{ rows, cols: count, width: blockSize, report, penalty },
        codes: { slot: codeSlot, start: col - first, rowStride: cols },
        errors: { slot: errorSlot, start: col - first, rowStride: cols },
        gradient: { slot: this.#gradient, start: left, rowStride: size },
        offset: col - left,
        panel: { slot, start: col * blockSize, rowStride: blockSize },
        weights: this.#weights,
        weightsStart: 0,
        sums: null,
        scales: this.#scales,
        scaleCols: size / groupCols,
        ...{ groupRows, firstRow: 0 },
        columnGroups: this.#columnGroups,
        groupsStart: col,
      });
      col += count;
    }
    const told = new Float32Array(REPORT_SLOTS * rows);
    batch.output(codeSlot, codes);
    batch.output(errorSlot, errors);
    batch.output(report, told);
    await batch.run(gpu);
    addDescentReport(totals, told, rows);
  }

  /** Gives its memory back; the moments stay. */
  destroy(): void {
    for (const { buffer } of this.#kept) buffer.destroy();
  }
}
