/**
 * Rounds a rectangle to nearest on the device, from its stored bytes to codes, scales and error sums, in one
 * submission: the same kernels in the same order as on the CPU, so that codes and scales are the same bits.
 *
 * Bytes. Up: the rectangle as it is stored (2 per element of BF16); down: 1 per element, and 32 per 1024
 * for the error sums. On the device: 8 per element (values and what is left of them) and what goes up and
 * down. Values are decoded a second time where rotation has used them up.
 */

import type { FloatDType } from "../../core/dtype.ts";
import { type Grid, groupCount, STATS_LENGTH } from "../backend.ts";
import { Batch, type BatchTimes } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { recordAddLowRank } from "./record_products.ts";
import {
  addErrorRuns,
  errorSumBytes,
  nonFiniteOf,
  recordAbsmax,
  recordCountNonFinite,
  recordDecode,
  recordDequantize,
  recordErrorStats,
  recordQuantize,
  recordRotate,
  recordScaleFromAbsmax,
  recordSearchScale,
} from "./webgpu_kernels.ts";

/** `b · a`, added to some rows. Views may lie in shared memory. */
export interface LowRankChange {
  /** The first of the rows. */
  readonly firstRow: number;
  readonly rank: number;
  /** f32 `[rows, rank]`. */
  readonly b: Float32Array;
  /** f32 `[rank, cols]`. */
  readonly a: Float32Array;
}

/** What is rounded, and where results go. Views may lie in shared memory. */
export interface QuantizeRect {
  /** The bytes of `grid.rows * grid.cols` elements of `dtype`, row-major. */
  readonly raw: Uint8Array;
  readonly dtype: FloatDType;
  /** What is added to the values, in order: LoRAs. Absent: nothing. */
  readonly changes?: readonly LowRankChange[];
  readonly grid: Grid;
  /** Group that is rotated before rounding; null: none. */
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** Out: i8 `[rows, cols]`. */
  readonly codes: Int8Array;
  /** Out: f32 `[groups]`. */
  readonly scales: Float32Array;
  /** Out, f64: STATS_LENGTH error sums, the number of NaN and infinities, the index of the first one or -1. */
  readonly numbers: Float64Array;
}

/** Length of {@link QuantizeRect.numbers}. */
export const RECT_NUMBERS = STATS_LENGTH + 2;

/** Bytes of the largest buffer that a rectangle of `count` elements takes: its values as f32. */
export function largestBufferBytes(count: number): number {
  return 4 * count;
}

/**
 * Carries it out, and returns how long its kernels ran. Where values are NaN or infinite, only that is told: other results mean nothing.
 *
 * @throws DeviceError where the device cannot.
 */
export async function quantizeRect(gpu: Gpu, rect: QuantizeRect): Promise<BatchTimes> {
  const { raw, dtype, grid, convrotGroupSize, codes, scales, numbers } = rect;
  const count = grid.rows * grid.cols;
  const batch = new Batch("quantize");
  const source = batch.input("source", raw);
  const x = batch.scratch("values", 4 * count);
  const found = batch.words("not finite", [0, 0xffffffff]);
  const changes = (rect.changes ?? []).map(({ a, b, ...place }) => ({
    ...place,
    rows: b.length / place.rank,
    a: batch.input("a", a),
    b: batch.input("b", b),
  }));
  const recordValues = (): void => {
    recordDecode(batch, x, source, { count, dtype });
    for (const { a, b, rows, rank, firstRow } of changes) {
      const { cols } = grid;
      recordAddLowRank(batch, x, { b, a, shape: { rows, cols, rank }, start: firstRow * cols });
    }
  };
  recordValues();
  recordCountNonFinite(batch, found, x, count);
  if (convrotGroupSize !== null) recordRotate(batch, x, count, convrotGroupSize);
  const scaleSlot = batch.scratch("scales", 4 * groupCount(grid));
  recordAbsmax(batch, scaleSlot, x, grid);
  recordScaleFromAbsmax(batch, scaleSlot, groupCount(grid));
  if (rect.scaleSearch) recordSearchScale(batch, scaleSlot, x, grid);
  const codeSlot = batch.scratch("codes", count);
  recordQuantize(batch, codeSlot, { x, scales: scaleSlot, grid });
  const xhat = batch.scratch("dequantized", 4 * count);
  recordDequantize(batch, xhat, { codes: codeSlot, scales: scaleSlot, grid });
  if (convrotGroupSize !== null) {
    recordRotate(batch, xhat, count, convrotGroupSize);
    recordValues();
  }
  const sumBytes = errorSumBytes(count);
  const sums = batch.scratch("error sums", sumBytes);
  recordErrorStats(batch, sums, { x, xhat, count });

  const runs = new Float32Array(sumBytes / 4), words = new Uint32Array(2);
  batch.output(codeSlot, codes);
  batch.output(scaleSlot, scales);
  batch.output(sums, runs);
  batch.output(found, words);
  const times = await batch.run(gpu);
  const nonFinite = nonFiniteOf(words);
  numbers.fill(0);
  addErrorRuns(numbers, runs, count);
  numbers[STATS_LENGTH] = nonFinite.count;
  numbers[STATS_LENGTH + 1] = nonFinite.first;
  return times;
}
