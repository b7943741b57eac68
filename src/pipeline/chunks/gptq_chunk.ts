/**
 * Quantizes a whole layer with error compensation, by one worker: Hessian from the calibration data,
 * rotated where the codes are, factored, then rows in bands. Layers run beside one another on the workers.
 *
 * Memory: the Hessian 8 K² bytes (8 K g for channel statistics, g the rotation group), activations
 * 4 T K, and a band of rows; `gptqScratchBytes` has the formula.
 */

import type { Grid } from "../../backend/backend.ts";
import { groupCount } from "../../backend/backend.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { Hessian } from "../../linalg/hessian.ts";
import {
  hessianFromActivations,
  hessianFromChannels,
  hessianFromMatrix,
} from "../../linalg/hessian_sources.ts";
import { matrix } from "../../linalg/matrix.ts";
import { rotateHessian } from "../../linalg/rotate_hessian.ts";
import { type GptqFactor, gptqRows, prepareGptq } from "../../quant/gptq.ts";
import { type Compensation, elementBytes, type QuantizeTask, type Rect } from "../tasks.ts";
import { bytesOf, type ChunkContext, SLOT } from "./chunk_context.ts";
import { decodeRect, decodeScratchBytes, rawBytes, readRect } from "./load_rect.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";
import { wholeScale } from "./stream_group.ts";

/** Elements of a band of rows: 16 MiB as f32. */
const BAND_ELEMENTS = 1 << 22;

/** Rows of a band: whole groups, at least one. */
function bandRows(task: QuantizeTask): number {
  const { rows, cols } = task.source;
  const unit = task.groupRows === rows ? 1 : task.groupRows;
  const bands = Math.max(1, Math.floor(Math.min(512, BAND_ELEMENTS / cols) / unit));
  return Math.min(rows, bands * unit);
}

/** Reads, quantizes and writes the layer of `task`. */
export function gptqChunk(
  context: ChunkContext,
  task: QuantizeTask,
  compensation: Compensation,
): void {
  const { scratch, linalg } = context;
  if (linalg === null) {
    throw new TypeError("Cannot compensate errors: no linear algebra was loaded");
  }
  const { rows, cols } = task.source;
  const grid: Grid = { rows, cols, groupRows: task.groupRows, groupCols: task.groupCols };
  const scales = scratch.f32(groupCount(grid));
  const factor = factorOf(context, linalg, task, compensation);
  const { damping, deadChannels, fallback } = factor.report;
  context.note(
    fallback === null
      ? `gptq from ${compensation.statistic}, damping ${damping}` +
        (deadChannels > 0 ? `, ${deadChannels} dead channels` : "")
      : `rounded to nearest: ${fallback}`,
  );
  const scaleSearch = fallback === null ? task.scaleSearch : compensation.fallbackScaleSearch;
  const isOneScale = task.groupRows === rows && task.groupCols === cols;
  if (isOneScale) {
    const mark = scratch.mark();
    const scale = wholeScale(context, { ...task, scaleSearch }, { row: 0, col: 0, rows, cols });
    scratch.release(mark);
    if (scale === null) return;
    scales[0] = scale;
  }
  const step = bandRows(task);
  const raw = scratch.u8(step * cols * elementBytes(task.source.dtype));
  const x = scratch.f32(step * cols);
  const xhat = scratch.f32(step * cols);
  const codes = scratch.i8(step * cols);
  const stats = scratch.f64(SLOT.nonFinite);
  stats.fill(0);
  for (let row = 0; row < rows; row += step) {
    const rect: Rect = { row, col: 0, rows: Math.min(step, rows - row), cols };
    const count = rect.rows * cols;
    const part = {
      raw: raw.subarray(0, rawBytes(task.source, rect)),
      x: x.subarray(0, count),
      codes: codes.subarray(0, count),
    };
    readRect(context, part.raw, task.source, rect);
    const restore = () => decodeRect(context, part.x, part.raw, task.source, rect);
    restore();
    if (reportNonFinite(context, part.x, rect, cols)) return;
    const local = isOneScale
      ? { ...grid, rows: rect.rows, groupRows: rect.rows }
      : { ...grid, rows: rect.rows };
    const across = cols / task.groupCols;
    const first = isOneScale ? 0 : (row / task.groupRows) * across;
    const localScales = scales.subarray(first, first + groupCount(local));
    if (task.convrotGroupSize !== null) context.kernels.rotate(part.x, task.convrotGroupSize);
    if (!isOneScale) {
      context.kernels.absmax(localScales, part.x, local);
      context.kernels.scaleFromAbsmax(localScales, localScales);
      if (scaleSearch) context.kernels.searchScale(localScales, part.x, local);
    }
    gptqRows(linalg, factor, { weights: part.x, codes: part.codes, firstRow: row, grid, scales });
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, {
      x: part.x,
      xhat: xhat.subarray(0, count),
      codes: part.codes,
      scales: localScales,
      grid: local,
      stats,
      restore,
    });
    writeCodes(context, task, rect, part.codes);
  }
  context.slot.set(stats);
  context.write(bytesOf(scales), task.scalesOffsetBytes);
}

/** The factored Hessian, in the space of the codes. */
function factorOf(
  context: ChunkContext,
  linalg: LinalgContext,
  task: QuantizeTask,
  compensation: Compensation,
): GptqFactor {
  const { cols } = task.source;
  const { scratch } = context;
  const size = compensation.statistic === "channels" ? cols : cols * cols;
  const values = scratch.f64(size);
  const group = task.convrotGroupSize;
  const spare = compensation.statistic === "channels" && group !== null
    ? scratch.f64(cols * group)
    : null;
  const mark = scratch.mark();
  const hessian = hessianOf(context, linalg, task, { compensation, values });
  scratch.release(mark);
  const rotated = group === null ? hessian : rotateHessian(linalg, hessian, group, spare);
  return prepareGptq(linalg, rotated, compensation);
}

function hessianOf(
  context: ChunkContext,
  linalg: LinalgContext,
  task: QuantizeTask,
  { compensation, values }: { compensation: Compensation; values: Float64Array },
): Hessian {
  const { cols } = task.source;
  const { statistic, rows } = compensation;
  if (statistic === "hessian") {
    // Row by row: a second copy of the matrix as f32 would be half as large again.
    const row = context.scratch.f32(cols);
    for (let i = 0; i < cols; i++) {
      loadRow(context, compensation, row, i);
      values.set(row, i * cols);
    }
    return hessianFromMatrix(values, cols);
  }
  const x = context.scratch.f32(rows * cols);
  for (let i = 0; i < rows; i++) {
    loadRow(context, compensation, x.subarray(i * cols, (i + 1) * cols), i);
  }
  return statistic === "channels"
    ? hessianFromChannels(x, values)
    : hessianFromActivations(linalg, matrix(x, rows, cols), values);
}

/** Fills `out` (K long) with row `index` of the calibration data. */
function loadRow(
  context: ChunkContext,
  { data }: Compensation,
  out: Float32Array,
  index: number,
): void {
  const cols = out.length;
  if (data.kind === "inline") {
    out.set(data.values.subarray(index * cols, (index + 1) * cols));
    return;
  }
  const mark = context.scratch.mark();
  const rowBytes = cols * elementBytes(data.dtype);
  const raw = context.scratch.u8(rowBytes);
  context.read(data.file, raw, data.offsetBytes + index * rowBytes);
  context.kernels.decode(out, raw, data.dtype);
  context.scratch.release(mark);
}

/** Bytes of scratch that {@link gptqChunk} takes. */
export function gptqScratchBytes(task: QuantizeTask, compensation: Compensation): number {
  const { rows, cols } = task.source;
  const scales = (rows / task.groupRows) * (cols / task.groupCols);
  const isDiagonal = compensation.statistic === "channels";
  const hessian = isDiagonal ? 8 * cols * (1 + (task.convrotGroupSize ?? 0)) : 8 * cols * cols;
  const input = compensation.statistic === "activations" ? 4 * compensation.rows * cols : 4 * cols;
  const step = bandRows(task);
  const band = step * cols * (elementBytes(task.source.dtype) + 4 + 4 + 1);
  // Inside gptqRows: reordered rows, their codes, feedback, a block column of the factor.
  const rounding = 512 * (5 * cols + 4 * 128) + 4 * 128 * cols + 64 * cols;
  const factoring = 64 * cols;
  return hessian + 4 * scales + Math.max(input + 16 * cols, band + rounding) + factoring +
    decodeScratchBytes(task.source, step) + (1 << 16);
}
