/**
 * The effect of rounding on the outputs of some rows of a layer, as `run/chunks/measure_chunk.ts` has it on
 * the CPU: sums of squares of the outputs, of their errors, and of those that int8 inputs leave. Weights and
 * inputs go up, three numbers per run of outputs come down.
 *
 * Cost: 4 (2 n k + m k) + n k bytes up for 6 m n k operations. Memory on the device: that, and 12 m n bytes.
 * Class: close, 1e-5 of the sums: products add up in another order, squares are summed as `error_stats.wgsl`
 * does. The int8 outputs are those of the CPU, bit for bit.
 */

import type { OutputRows } from "../output_rows.ts";
import { Batch, type Slot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { recordInt8Linear } from "./record_int8_linear.ts";
import { type GpuMatrix, gpuMatrix, recordGemm } from "./record_matrix.ts";
import { ERROR_RUN, errorSumBytes, recordErrorStats } from "./webgpu_kernels.ts";

/** Fills `sums`. @throws DeviceError if the device fails: `sums` are what they were. */
export async function outputErrors(gpu: Gpu, rows: OutputRows): Promise<void> {
  const { weights, difference, inputs, cols: k, stored, sums } = rows;
  const n = weights.length / k, m = inputs.length / k;
  const batch = new Batch("errors of outputs");
  const x = gpuMatrix(batch.input("inputs", inputs), { rows: m, cols: k });
  const product = (label: string, values: Float32Array): Slot => {
    const out = gpuMatrix(batch.scratch(`outputs of ${label}`, 4 * m * n), { rows: m, cols: n });
    const b = gpuMatrix(batch.input(label, values), { rows: n, cols: k });
    recordGemm(batch, out, { a: x, b: transposed(b), mode: "set" });
    return out.slot;
  };
  const outputs = product("weights", weights), errors = product("difference", difference);
  const plain = recordSums(batch, outputs, errors, m * n);
  let rounded: Float32Array | null = null;
  if (stored !== null) {
    const { codes, scales, grid, convrotGroupSize } = stored;
    const results = batch.scratch("int8 outputs", 4 * m * n);
    recordInt8Linear(batch, results, {
      x: x.slot,
      m,
      codes: batch.input("codes", codes),
      scales: batch.input("scales", scales),
      grid,
      convrotGroupSize,
    });
    rounded = recordSums(batch, outputs, results, m * n);
  }
  await batch.run(gpu);
  for (let at = 0, run = 0; at < plain.length; at += ERROR_RUN.slots, run += 3) {
    // Slots: see STATS. Sums of squares are in units, as `error_stats.wgsl` says.
    const unit = 4 ** plain[at + 5]!;
    sums[run] = plain[at + 1]! * unit;
    sums[run + 1] = plain[at + 2]! * unit;
    sums[run + 2] = rounded === null ? 0 : rounded[at]! * 4 ** rounded[at + 6]!;
  }
}

/** Records the sums of squares of x, y and x - y; returns where they will be. */
function recordSums(batch: Batch, x: Slot, y: Slot, count: number): Float32Array {
  const runs = new Float32Array(errorSumBytes(count) / 4);
  const slot = batch.scratch("sums", runs.byteLength);
  recordErrorStats(batch, slot, { x, xhat: y, count });
  batch.output(slot, runs);
  return runs;
}

function transposed(m: GpuMatrix): GpuMatrix {
  const { rows, cols, rowStride, colStride } = m;
  return { ...m, rows: cols, cols: rows, rowStride: colStride, colStride: rowStride };
}
