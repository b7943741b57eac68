/**
 * Quantizes a layer whose codes are stored transformed (`quant/incoherence.ts`), by all workers together.
 *
 * All rows are read, padded and transformed along the columns, then all columns along the rows; the
 * transformed rows are rounded, with compensation if there is a Hessian; what rounding took is
 * transformed back in place, so that the reported errors are those of the weight itself.
 *
 * Memory. All share the padded weight, 4 P Q bytes, and with calibration data its Hessian, 8 Q² bytes; each
 * worker has a band of rows. Cost: about 4 P Q log2(P Q) additions besides rounding.
 */

import type { Hessian } from "../../linalg/hessian.ts";
import { block, matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import { shareOf } from "../../linalg/team.ts";
import {
  type GptqFactor,
  type GptqSizes,
  planGptq,
  planGptqRows,
  prepareGptq,
} from "../../quant/gptq.ts";
import { planRowObjectives } from "../../quant/row_objectives.ts";
import { randomSigns } from "../../quant/incoherence.ts";
import type { Transform } from "../../quant/scheme.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import { chunkRect, type Rect } from "../chunk_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import { bytesOf } from "../../core/bytes.ts";
import { errorSums, SLOT } from "../layer_statistics.ts";
import { type Scratch, takeNumbers, type TeamContext } from "./chunk_context.ts";
import { dropFactor, type PlacedFactor, placeFactor, roundRows } from "./round_rows.ts";
import { denseMeasures, guardRows, largestShare, planGuard } from "./guard_rows.ts";
import { compensatedNote, feedsIntegers } from "./compensated_task.ts";
import { fillDead, hessianElements, hessianOf, planHessian } from "./load_hessian.ts";
import { decodeRect, planDecode, planDecodedRect, readRect, roomForRect } from "./load_rect.ts";
import { reportNonFinite } from "./quantize_chunk.ts";

/** Transformed rows that are rounded in one go. */
const BAND_ROWS = 128;

/** Reads, quantizes and writes the layer of `task`. Every worker of the run calls it, for the same task. */
export function quipLayer(team: TeamContext, task: QuantizeTask, transform: Transform): void {
  const { rows, cols } = transform;
  const { seed } = transform, { name } = task;
  const { data, toNearest } = roomForLayer(team.shared, transform, team.linalg.team.size);
  const layer: TransformedLayer = {
    task,
    weights: matrix(data, rows, cols),
    toNearest,
    signRow: randomSigns(rows, { seed, name, side: "row" }),
    signCol: randomSigns(cols, { seed, name, side: "col" }),
  };
  if (!loadTransformed(team, layer)) return;
  const factor = task.compensation === null ? null : factorOf(team, layer, task.compensation);
  if (team.linalg.team.index === 0) {
    team.note(
      factor === null
        ? { kind: "transformed" }
        : compensatedNote("transformedQuip", task.compensation!, factor),
    );
  }
  const placed = factor === null ? null : placeFactor(team, task, factor);
  roundAll(team, layer, placed);
  if (placed !== null) dropFactor(team, placed);
  transformBack(team, layer);
  for (let chunk = team.nextChunk(); chunk !== null; chunk = team.nextChunk()) {
    addBandErrors(team, layer, chunk);
    // Bands and chunks do not line up, so chunk 0 reports the total.
    if (chunk.index === 0) {
      const rows = layer.toNearest.reduce((sum, rows) => sum + rows, 0);
      chunk.context.slot[SLOT.quantize.rowsToNearest] = rows;
    }
    team.chunkDone(chunk.context);
  }
}

interface TransformedLayer {
  readonly task: QuantizeTask;
  /** The padded weight, transformed; then what rounding took from it. Shared. */
  readonly weights: MatrixF32;
  /** Transformed rows that each member rounded to nearest in spite of a Hessian. Shared. */
  readonly toNearest: Float64Array;
  readonly signRow: Float32Array;
  readonly signCol: Float32Array;
}

/** Fills the padded weight; false, to everybody, if it holds NaN or infinity. */
function loadTransformed(
  team: TeamContext,
  { task, weights, signRow, signCol }: TransformedLayer,
): boolean {
  const { scratch, linalg } = team;
  const { rows, cols } = task.source;
  const grid = quantizeGrid(task), bands = Math.ceil(weights.rows / grid.rowStep);
  const own = shareOf(linalg.team, 0, bands);
  let isBad = 0;
  for (let band = own.start; band < own.end && isBad === 0; band++) {
    const top = band * grid.rowStep, height = Math.min(grid.rowStep, weights.rows - top);
    const part = block(weights, top, 0, height, weights.cols);
    part.data.fill(0, 0, height * weights.cols);
    if (top >= rows) continue;
    const rect = chunkRect(grid, band);
    const mark = scratch.mark();
    const { raw, x } = roomForRect(scratch, task.source, rect);
    const context = team.contextOf(band);
    readRect(context, raw, task.source, rect);
    decodeRect(context, x, raw, task.source, rect);
    if (reportNonFinite(context, x, rect, cols)) {
      isBad = 1;
      team.chunkDone(context);
    }
    for (let r = 0; r < rect.rows; r++) {
      const sign = signRow[rect.row + r]!;
      for (let k = 0; k < cols; k++) {
        part.data[r * weights.cols + k] = x[r * cols + k]! * sign * signCol[k]!;
      }
    }
    scratch.release(mark);
    linalg.kernels.hadamardRows(part);
  }
  if (linalg.team.max(isBad) > 0) return false;
  transformColumns(team, weights);
  return true;
}

/** This member's columns; ends in a barrier. */
function transformColumns({ linalg }: TeamContext, x: MatrixF32): void {
  const { start, end } = shareOf(linalg.team, 0, x.cols, 16);
  if (end > start) linalg.kernels.hadamardColumns(block(x, 0, start, x.rows, end - start));
  linalg.team.barrier();
}

/** The factored Hessian of the transformed inputs. */
function factorOf(
  team: TeamContext,
  { weights, signCol, task }: TransformedLayer,
  compensation: Compensation,
): GptqFactor {
  const { shared, linalg } = team;
  const size = weights.cols, { cols } = task.source;
  const whole: Compensation = { ...compensation, segments: null };
  const values = shared.f64(size * size);
  const mark = shared.mark();
  const small = shared.f64(hessianElements(cols, whole));
  const given = fillDead(
    linalg,
    hessianOf(team, whole, {
      size: cols,
      group: null,
      values: small,
      onGpu: task.onGpu?.sumsMoments ?? false,
    }),
  );
  const own = shareOf(linalg.team, 0, size);
  for (let i = own.start; i < own.end; i++) {
    const row = values.subarray(i * size, (i + 1) * size).fill(0);
    if (i >= cols) continue;
    if (given.blockSize === 1) row[i] = small[i]!;
    else for (let j = 0; j < cols; j++) row[j] = small[i * cols + j]! * signCol[i]! * signCol[j]!;
  }
  if (own.end > own.start) {
    const mine = values.subarray(own.start * size, own.end * size);
    linalg.kernels.hadamardRows(matrix(mine, own.end - own.start, size));
  }
  linalg.team.barrier();
  const strip = shareOf(linalg.team, 0, size, 8);
  if (strip.end > strip.start) {
    const h = matrix(values, size, size);
    linalg.kernels.hadamardColumns(block(h, 0, strip.start, size, strip.end - strip.start));
  }
  linalg.team.barrier();
  shared.release(mark);
  const hessian: Hessian = { ...given, size, blockSize: size, values };
  return prepareGptq(linalg, hessian, {
    ...compensation,
    turbo: feedsIntegers(task) ? shared : null,
  });
}

/** Rounds and writes the transformed rows; leaves what rounding took. Ends in a barrier. */
function roundAll(
  team: TeamContext,
  { task, weights, toNearest }: TransformedLayer,
  factor: PlacedFactor | null,
): void {
  const { kernels, linalg, scratch } = team;
  const { cols } = weights;
  const share = task.compensation === null ? 1 : largestShare(task.compensation);
  const own = shareOf(linalg.team, 0, weights.rows, BAND_ROWS);
  let nearest = 0;
  for (let top = own.start; top < own.end; top += BAND_ROWS) {
    const rows = Math.min(BAND_ROWS, own.end - top);
    const x = weights.data.subarray(top * cols, (top + rows) * cols);
    const grid = { rows, cols, groupRows: 1, groupCols: cols };
    const mark = scratch.mark();
    const { codes, scales, values } = roomForRounding(scratch, grid);
    kernels.absmax(scales, x, grid);
    kernels.scaleFromAbsmax(scales, scales);
    if (task.scaleSearch) kernels.searchScale(scales, x, grid);
    if (factor === null) {
      kernels.quantize(codes, x, scales, grid);
      kernels.dequantize(values, codes, scales, grid);
      for (let i = 0; i < x.length; i++) x[i] = x[i]! - values[i]!;
    } else {
      const weights = values;
      weights.set(x); // rounding uses them up
      const rows = { weights: x, codes, firstRow: 0, layerRow: top, grid, scales };
      roundRows(team, linalg, { ...factor, ...rows, errors: false });
      const rounded = { weights, codes, scales, plain: scales, grid, share };
      const { report } = factor.factor;
      if (report.fallback === null) {
        const measures = denseMeasures(team, linalg, factor.factor);
        nearest += guardRows(team, measures, rounded).length;
      }
      kernels.dequantize(x, codes, scales, grid);
      for (let i = 0; i < x.length; i++) x[i] = weights[i]! - x[i]!;
    }
    team.write(bytesOf(codes), task.codesOffsetBytes + top * cols);
    team.write(bytesOf(scales), task.scalesOffsetBytes + 4 * top);
    scratch.release(mark);
  }
  toNearest[linalg.team.index] = nearest;
  linalg.team.barrier();
}

/** Brings the errors back to original space. Ends in a barrier. */
function transformBack(team: TeamContext, { weights, signRow, signCol }: TransformedLayer): void {
  transformColumns(team, weights);
  untransformRows(team, weights, { signRow, signCol });
  team.linalg.team.barrier();
}

/** The last step back, for this member's rows: along the columns, then the signs. */
function untransformRows(
  { linalg }: TeamContext,
  x: MatrixF32,
  { signRow, signCol }: { signRow: Float32Array; signCol: Float32Array },
): void {
  const { start, end } = shareOf(linalg.team, 0, x.rows);
  if (end === start) return;
  const mine = block(x, start, 0, end - start, x.cols);
  linalg.kernels.hadamardRows(mine);
  for (let r = 0; r < mine.rows; r++) {
    const sign = signRow[start + r]!;
    for (let k = 0; k < x.cols; k++) {
      mine.data[r * x.rowStride + k] = mine.data[r * x.rowStride + k]! * sign * signCol[k]!;
    }
  }
}

/** The errors of one band of the weight, against its source. */
function addBandErrors(
  team: TeamContext,
  { task, weights }: TransformedLayer,
  { index, context }: NonNullable<ReturnType<TeamContext["nextChunk"]>>,
): void {
  const { scratch, kernels } = team;
  const rect = chunkRect(quantizeGrid(task), index);
  const mark = scratch.mark();
  const { raw, x, xhat } = roomForErrors(scratch, task.source, rect);
  readRect(context, raw, task.source, rect);
  decodeRect(context, x, raw, task.source, rect);
  for (let r = 0; r < rect.rows; r++) {
    const from = (rect.row + r) * weights.rowStride, to = r * rect.cols;
    for (let k = 0; k < rect.cols; k++) xhat[to + k] = x[to + k]! - weights.data[from + k]!;
  }
  const stats = takeNumbers(context);
  kernels.errorStats(errorSums(stats), x, xhat);
  context.slot.set(stats);
  scratch.release(mark);
}

/** Most workers of a run. */
const WORKERS_MAX = 64;

/** Counts what {@link quipLayer} takes. */
export function planQuipLayer(
  memory: PlannedMemory,
  task: QuantizeTask,
  { rows, cols }: Transform,
): void {
  const { own, shared } = memory, { source, compensation } = task;
  const rect = chunkRect(quantizeGrid(task), 0), band = { rows: Math.min(BAND_ROWS, rows), cols };
  roomForLayer(shared, { rows, cols }, WORKERS_MAX);
  own.within(() => planDecodedRect(own, source, quantizeGrid(task)));
  own.within(() => {
    roomForErrors(own, source, rect);
    planDecode(own, source, rect);
    takeNumbers({ scratch: own });
  });
  if (compensation === null) {
    own.within(() => roomForRounding(own, band));
    return;
  }
  const whole = { ...compensation, segments: null };
  const sizes: GptqSizes = {
    size: cols,
    blockSize: cols,
    actOrder: compensation.actOrder,
    turbo: feedsIntegers(task),
    hasLevels: false,
  };
  shared.f64(cols * cols);
  shared.within(() => {
    shared.f64(hessianElements(source.cols, whole));
    planHessian(memory, source.cols, whole);
  });
  planGptq(own, shared, sizes);
  own.within(() => {
    roomForRounding(own, band);
    planGptqRows(own, band.rows, sizes);
    planGuard(own, band, (height) => planRowObjectives(own, height, sizes));
  });
}

/** The padded weight, and a number of every member. */
function roomForLayer(
  shared: Pick<Scratch, "f32" | "f64">,
  { rows, cols }: Pick<Transform, "rows" | "cols">,
  members: number,
) {
  return { data: shared.f32(rows * cols), toNearest: shared.f64(members) };
}

/** Codes and scales of some rows, and their weights or what codes and scales stand for. */
function roomForRounding(
  scratch: Pick<Scratch, "f32" | "i8">,
  { rows, cols }: Pick<Transform, "rows" | "cols">,
) {
  return {
    codes: scratch.i8(rows * cols),
    scales: scratch.f32(rows),
    values: scratch.f32(rows * cols),
  };
}

/** A rectangle, and what its codes stand for. */
function roomForErrors(scratch: Pick<Scratch, "u8" | "f32">, source: MatrixSource, rect: Rect) {
  return { ...roomForRect(scratch, source, rect), xhat: scratch.f32(rect.rows * rect.cols) };
}
