/**
 * Second moments of a layer's inputs, Xᵀ·X, summed up on the device over any number of parts of X: the part
 * of calibration that costs most, 2 N K² operations for N inputs of K channels.
 *
 * Sums are f32, and so is what comes down; what is made of it is f64 again, on the CPU. An element is off by
 * about 10⁻⁶ of the energies of its two channels, which is far less than the damping that is added to all of
 * them, and than what another sample of inputs would change.
 *
 * Only the lower triangle is made, in bands of {@link BAND_ROWS} rows, one buffer each.
 */

import type { MatrixF64 } from "../../linalg/matrix.ts";
import { Batch, type ResidentSlot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { gpuBlock, gpuMatrix, recordGemm } from "./record_matrix.ts";
import { createResident } from "./resident.ts";

/** Rows of a band: enough to fill a GPU, few enough that little is made above the diagonal. */
const BAND_ROWS = 512;

/** Rows `first .. end` of the lower triangle, columns `0 .. end`, row-major. */
interface Band {
  readonly first: number;
  readonly end: number;
  readonly slot: ResidentSlot;
}

/** A sum on the device, until it is destroyed. */
export class GpuGram {
  readonly #gpu: Gpu;
  readonly #size: number;
  readonly #bands: Band[] = [];
  #isEmpty = true;

  private constructor(gpu: Gpu, size: number) {
    this.#gpu = gpu;
    this.#size = size;
  }

  /**
   * Makes room for the second moments of `size` channels: 2 K² bytes and a little.
   *
   * @throws DeviceError if the device has none.
   */
  static async create(gpu: Gpu, size: number): Promise<GpuGram> {
    if (gpu.failure !== null) throw gpu.failure;
    const gram = new GpuGram(gpu, size);
    const work: Promise<void>[] = [];
    for (let first = 0; first < size; first += BAND_ROWS) {
      const end = Math.min(size, first + BAND_ROWS), bytes = 4 * (end - first) * end;
      const { slot, created } = createResident(gpu, `moments from row ${first}`, { bytes });
      gram.#bands.push({ first, end, slot });
      work.push(created);
    }
    const failed = (await Promise.allSettled(work)).find(({ status }) => status === "rejected");
    if (failed === undefined) return gram;
    gram.destroy();
    throw (failed as PromiseRejectedResult).reason;
  }

  /**
   * Adds the inputs `x`, f32 `[rows, K]`, one per row; one call after the other.
   *
   * @throws RangeError if `x` is not of whole rows; DeviceError if the device fails: the sum is lost.
   */
  async add(x: Float32Array): Promise<void> {
    const size = this.#size, rows = x.length / size;
    if (!Number.isInteger(rows)) {
      throw new RangeError(`Cannot add inputs: ${x.length} values of ${size} channels`);
    }
    const limit = this.#gpu.device.limits.maxStorageBufferBindingSize;
    const most = Math.max(1, Math.floor(limit / (4 * size)));
    for (let start = 0; start < rows; start += most) {
      const count = Math.min(most, rows - start);
      const batch = new Batch("second moments");
      const slot = batch.input("inputs", x.subarray(start * size, (start + count) * size));
      const inputs = gpuMatrix(slot, { rows: count, cols: size });
      const turned = { ...inputs, rows: size, cols: count, rowStride: 1, colStride: size };
      for (const { first, end, slot } of this.#bands) {
        recordGemm(batch, gpuMatrix(slot, { rows: end - first, cols: end }), {
          a: gpuBlock(turned, first, 0, end - first, count),
          b: gpuBlock(inputs, 0, 0, count, end),
          mode: this.#isEmpty ? "set" : "add",
        });
      }
      // Something to wait for: inputs must not be changed, nor pile up, before they are used.
      batch.output(this.#bands[0]!.slot, new Uint32Array(1));
      this.#isEmpty = false;
      await batch.run(this.#gpu);
    }
  }

  /**
   * Adds the sum to the lower triangle of `h`, f64 `[K, K]`.
   *
   * @throws DeviceError if the device fails: `h` may then have part of the sum.
   */
  async addTo(h: MatrixF64): Promise<void> {
    if (this.#isEmpty) return;
    for (const { first, end, slot } of this.#bands) {
      const batch = new Batch("second moments");
      const band = new Float32Array((end - first) * end);
      batch.output(slot, band);
      await batch.run(this.#gpu);
      for (let i = first; i < end; i++) {
        const from = (i - first) * end, to = i * h.rowStride;
        for (let j = 0; j <= i; j++) h.data[to + j] = h.data[to + j]! + band[from + j]!;
      }
    }
  }

  /** Gives its memory back. */
  destroy(): void {
    for (const { slot } of this.#bands) slot.buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}
