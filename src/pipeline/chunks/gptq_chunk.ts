/**
 * Quantizes a layer with error compensation, by all workers together: the Hessian from the calibration
 * data, rotated where the codes are and factored by the team; then everybody takes bands of rows.
 *
 * Memory. All share the Hessian, 8 K² bytes (8 K g for channel statistics, g the rotation group), which
 * its factor replaces, and ACTIVATION_ROWS rows of calibration inputs; each worker has a band of rows.
 * `gptqSharedBytes` and `gptqScratchBytes` have the formulas.
 */

import { groupCount } from "../../backend/backend.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import {
  addGram,
  diagonalOf,
  finishGram,
  type Hessian,
  hessianBlock,
  shrinkageOf,
  shrinkToDiagonal,
} from "../../linalg/hessian.ts";
import { hessianFromChannels, hessianFromMatrix } from "../../linalg/hessian_sources.ts";
import { matrix } from "../../linalg/matrix.ts";
import { rotateHessian } from "../../linalg/rotate_hessian.ts";
import { shareOf } from "../../linalg/team.ts";
import { residualEnergies, searchCompensatedScales } from "../../quant/compensated_scale.ts";
import { type GptqFactor, gptqRows, prepareGptq } from "../../quant/gptq.ts";
import {
  chunkGrid,
  chunkRect,
  type Compensation,
  elementBytes,
  type QuantizeTask,
  type Rect,
} from "../tasks.ts";
import { bytesOf, type ChunkContext, SLOT, type TeamContext } from "./chunk_context.ts";
import { decodeRect, decodeScratchBytes, rawBytes, readRect } from "./load_rect.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";
import { bandGrid, hasOneScale, LayerScales, layerScalesBytes } from "./layer_scales.ts";

/** Calibration inputs that are in memory at once. A multiple of GEMM_DEPTH: the bits do not depend on it. */
const ACTIVATION_ROWS = 1024;

/** Reads, quantizes and writes the layer of `task`. Every worker of the run calls it, for the same task. */
export function gptqLayer(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): void {
  const { linalg } = team;
  const scales = new LayerScales(team, task);
  const hessian = rotatedHessian(team, task, compensation);
  // Where large weights are clipped, their columns should come early; rotation leaves few of them.
  const weighted = compensation.weightedScales && task.convrotGroupSize === null &&
    hessian.blockSize > 1;
  const importance = weighted && compensation.actOrder && task.groupRows > 1
    ? scales.importance(diagonalOf(hessian))
    : null;
  const factor = prepareGptq(linalg, hessian, { ...compensation, importance });
  const { damping, deadChannels, fallback } = factor.report;
  if (linalg.team.index === 0) {
    team.note(
      fallback === null
        ? `gptq from ${compensation.statistic}, damping ${damping}` +
          (deadChannels > 0 ? `, ${deadChannels} dead channels` : "")
        : `rounded to nearest: ${fallback}`,
    );
  }
  const isPlain = fallback !== null || !weighted;
  const scaleSearch = fallback === null ? task.scaleSearch : compensation.fallbackScaleSearch;
  const searched = { ...task, scaleSearch };
  const oneScale = !hasOneScale(task)
    ? null
    : isPlain
    ? scales.plain(searched)
    : scales.weighted(residualEnergies(factor));
  const layer: Layer = { task: searched, factor, oneScale, weighted: !isPlain };
  if (oneScale !== null && linalg.team.index === 0) {
    team.write(bytesOf(Float32Array.of(oneScale)), task.scalesOffsetBytes);
  }
  for (let chunk = team.nextChunk(); chunk !== null; chunk = team.nextChunk()) {
    quantizeBand(chunk.context, linalg, layer, chunkRect(chunkGrid(task), chunk.index));
    team.chunkDone(chunk.context);
  }
}

/** What everybody knows of a layer before the bands are taken. */
interface Layer {
  readonly task: QuantizeTask;
  readonly factor: GptqFactor;
  /** The scale of the whole layer, where there is only one. */
  readonly oneScale: number | null;
  /** Whether scales are those of least error after compensation. */
  readonly weighted: boolean;
}

/** Reads, rounds and writes the rows of `rect`: whole groups, or a part of the only one. */
function quantizeBand(
  context: ChunkContext,
  linalg: LinalgContext,
  { task, factor, oneScale, weighted }: Layer,
  rect: Rect,
): void {
  const { scratch, kernels } = context;
  const { cols } = task.source;
  const count = rect.rows * cols;
  const grid = bandGrid(task, rect);
  const mark = scratch.mark();
  const raw = scratch.u8(rawBytes(task.source, rect));
  const x = scratch.f32(count), xhat = scratch.f32(count);
  const codes = scratch.i8(count);
  const scales = scratch.f32(groupCount(grid));
  const stats = scratch.f64(SLOT.nonFinite);
  stats.fill(0);
  readRect(context, raw, task.source, rect);
  const restore = () => decodeRect(context, x, raw, task.source, rect);
  restore();
  if (!reportNonFinite(context, x, rect, cols)) {
    if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    if (oneScale !== null) scales[0] = oneScale;
    else {
      kernels.absmax(scales, x, grid);
      kernels.scaleFromAbsmax(scales, scales);
      if (weighted) searchCompensatedScales(factor, scales, x, grid);
      else if (task.scaleSearch) kernels.searchScale(scales, x, grid);
    }
    gptqRows(linalg, factor, { weights: x, codes, firstRow: 0, grid, scales });
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, { x, xhat, codes, scales, grid, stats, restore });
    writeCodes(context, task, rect, codes);
    context.slot.set(stats);
    if (oneScale === null) {
      const first = (rect.row / task.groupRows) * (cols / task.groupCols);
      context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * first);
    }
  }
  scratch.release(mark);
}

/** The Hessian, in the space of the codes. */
function rotatedHessian(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): Hessian {
  const { cols } = task.source;
  const { shared, linalg } = team;
  const isDiagonal = compensation.statistic === "channels";
  const values = shared.f64(isDiagonal ? cols : cols * cols);
  const group = task.convrotGroupSize;
  const spare = isDiagonal && group !== null ? shared.f64(cols * group) : null;
  const hessian = hessianOf(team, cols, compensation, values);
  return group === null ? hessian : rotateHessian(linalg, hessian, group, spare);
}

function hessianOf(
  team: TeamContext,
  size: number,
  compensation: Compensation,
  values: Float64Array,
): Hessian {
  const { linalg, scratch } = team;
  if (compensation.statistic === "activations") {
    return hessianFromInputs(team, size, compensation, values);
  }
  const mark = scratch.mark();
  const row = scratch.f32(size);
  if (compensation.statistic === "channels") {
    loadRow(team, compensation, row, 0);
    const own = scratch.f64(size);
    const hessian = hessianFromChannels(row, own);
    if (linalg.team.index === 0) values.set(own);
    linalg.team.barrier();
    scratch.release(mark);
    return { ...hessian, values };
  }
  const { start, end } = shareOf(linalg.team, 0, size);
  for (let i = start; i < end; i++) {
    loadRow(team, compensation, row, i);
    values.set(row, i * size);
  }
  scratch.release(mark);
  linalg.team.barrier();
  return hessianFromMatrix(values, size, linalg.team);
}

/** XᵀX / T, shrunk toward its diagonal, from inputs that are read in parts. */
function hessianFromInputs(
  team: TeamContext,
  size: number,
  compensation: Compensation,
  values: Float64Array,
): Hessian {
  const { linalg, shared } = team;
  const hessian: Hessian = { size, blockSize: size, values, source: "activations" };
  const h = hessianBlock(hessian, 0);
  const own = shareOf(linalg.team, 0, values.length);
  values.fill(0, own.start, own.end);
  const mark = shared.mark();
  const x = shared.f32(Math.min(ACTIVATION_ROWS, compensation.rows) * size);
  for (let first = 0; first < compensation.rows; first += ACTIVATION_ROWS) {
    const rows = Math.min(ACTIVATION_ROWS, compensation.rows - first);
    const mine = shareOf(linalg.team, 0, rows);
    for (let i = mine.start; i < mine.end; i++) {
      const row = x.subarray(i * size, (i + 1) * size);
      loadRow(team, compensation, row, first + i);
      refuseNonFinite(row, first + i);
    }
    linalg.team.barrier();
    addGram(linalg, h, matrix(x, rows, size));
    linalg.team.barrier();
  }
  shared.release(mark);
  finishGram(linalg, h, compensation.rows);
  shrinkToDiagonal(linalg, h, shrinkageOf(compensation.rows, size));
  return hessian;
}

function refuseNonFinite(row: Float32Array, index: number): void {
  for (let k = 0; k < row.length; k++) {
    if (!Number.isFinite(row[k])) {
      throw new RangeError(`Cannot make Hessian: activations[${index}, ${k}] is ${row[k]}`);
    }
  }
}

/** Fills `out` (K long) with row `index` of the calibration data. */
function loadRow(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
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

/** Bytes of memory that the workers share in {@link gptqLayer}. */
export function gptqSharedBytes(task: QuantizeTask, compensation: Compensation): number {
  const { cols } = task.source;
  const isDiagonal = compensation.statistic === "channels";
  const hessian = isDiagonal ? 8 * cols * (1 + (task.convrotGroupSize ?? 0)) : 8 * cols * cols;
  const inputs = compensation.statistic === "activations"
    ? 4 * Math.min(ACTIVATION_ROWS, compensation.rows) * cols
    : 0;
  return hessian + Math.max(inputs, layerScalesBytes(task)) + SLACK_BYTES;
}

/** Bytes of scratch that each worker takes in {@link gptqLayer}. */
export function gptqScratchBytes(task: QuantizeTask): number {
  const { rows, cols } = task.source;
  const step = chunkGrid(task).rowStep;
  const groups = (Math.min(rows, step) / Math.min(task.groupRows, step)) * (cols / task.groupCols);
  const band = step * cols * (elementBytes(task.source.dtype) + 4 + 4 + 1) + 4 * groups;
  // Inside gptqRows: reordered rows, their codes, feedback, a block column of the factor.
  const rounding = step * (5 * cols + 4 * 128) + 4 * 128 * cols + 64 * cols;
  const factoring = 128 * cols + 8 * 128 * 128;
  return band + rounding + factoring + decodeScratchBytes(task.source, step) + SLACK_BYTES;
}

/** Room for the alignment of arrays. */
const SLACK_BYTES = 1 << 16;
