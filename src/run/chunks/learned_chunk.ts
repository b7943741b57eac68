/**
 * Learned rounding of a layer. Without data by one worker, the whole layer in memory: the leading singular
 * directions need all of it; layers run beside one another on the workers. With data by all workers
 * together: the second moments of the inputs are made by the team, then everybody takes bands of rows,
 * which do not depend on one another.
 *
 * Memory. Without data per worker: the layer as f32, codes, best codes and the factors (`learned_rounding.ts`
 * has the formula). With data: the moments, 8 K² bytes, shared; a band of rows per worker.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Grid, groupCount } from "../../backend/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import { randomFor } from "../../core/rng.ts";
import { soloContext } from "../../linalg/context.ts";
import { findScales, planFindScales } from "../../quant/learned/choose_scales.ts";
import {
  type MomentBlocks,
  planForOutputs,
  planProjected,
  roundForOutputs,
  roundForOutputsOn,
  roundProjected,
  type SearchResult,
} from "../../quant/learned/learned_rounding.ts";
import { reportOf } from "../../quant/learned/report.ts";
import { chunkCount, chunkRect, type Rect } from "../chunk_grid.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { Learned, QuantizeTask } from "../tasks.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import { bytesOf } from "../../core/bytes.ts";
import { type ChunkContext, type Scratch, takeNumbers, type TeamContext } from "./chunk_context.ts";
import { bandGrid, hasOneScale, LayerScales, planPlainScale } from "./layer_scales.ts";
import { MomentsOnGpu, planDevice, planMomentsOnGpu } from "./learned_on_gpu.ts";
import { planRotatedHessian, rotatedHessian } from "./load_hessian.ts";
import { decodeRect, planDecode, rawBytes, readRect, roomForRect } from "./load_rect.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";
import { SearchResults } from "./search_results.ts";

/** Elements that are read and decoded at a time. */
const READ_ELEMENTS = 1 << 18;

/** Rows that are read at a time: whole groups, or any of the only one. */
function readRows(task: QuantizeTask): number {
  const { rows, cols } = task.source;
  const unit = hasOneScale(task) ? 1 : task.groupRows;
  return Math.min(rows, Math.max(1, Math.floor(READ_ELEMENTS / (cols * unit))) * unit);
}

function readRects(task: QuantizeTask): Rect[] {
  const { rows, cols } = task.source, step = readRows(task);
  return Array.from({ length: Math.ceil(rows / step) }, (_, index) => ({
    row: index * step,
    col: 0,
    rows: Math.min(step, rows - index * step),
    cols,
  }));
}

/** Reads, rounds and writes a layer without data. */
export function learnedChunk(context: ChunkContext, task: QuantizeTask, learned: Learned): void {
  const { scratch, kernels, linalg } = context;
  if (linalg === null) {
    throw new TypeError(`Cannot round ${task.name}: no linear algebra was loaded`);
  }
  const grid = wholeGrid(task), { x, codes, scales, used } = roomForLayer(scratch, grid);
  if (!load(context, task, x)) return;
  const { optimizer, options, seed } = learned;
  const layer = { weights: x, grid, scales, spare: used };
  const { scaleSearch: search } = task;
  const reference = findScales(kernels, scratch, layer, { search, options });
  kernels.quantize(codes, x, scales, grid);
  used.set(scales);
  const problem = { optimizer, options, grid, weights: x, scales: used, codes };
  const result = roundProjected(
    linalg,
    reference === null ? problem : { ...problem, reference },
    randomFor(seed, task.name),
  );
  const report = reportOf([result], {
    ...result,
    optimizer,
    loss: "projected",
    elements: x.length,
  });
  context.note({ kind: "learned", report });
  writeLayer(context, task, { codes, scales });
}

/** Fills `x` with the weights in the space of the codes; false if they hold NaN or infinity. */
function load(context: ChunkContext, task: QuantizeTask, x: Float32Array): boolean {
  const { scratch, kernels } = context, { source } = task;
  const mark = scratch.mark(), rects = readRects(task);
  const raw = scratch.u8(rawBytes(source, rects[0]!));
  for (const rect of rects) {
    const own = raw.subarray(0, rawBytes(source, rect)), from = rect.row * rect.cols;
    const values = x.subarray(from, from + rect.rows * rect.cols);
    readRect(context, own, source, rect);
    decodeRect(context, values, own, source, rect);
    if (reportNonFinite(context, values, rect, source.cols)) return false;
    if (task.convrotGroupSize !== null) kernels.rotate(values, task.convrotGroupSize);
  }
  scratch.release(mark);
  return true;
}

/** Writes codes and scales, and adds up what the errors are against the source, read once more. */
function writeLayer(
  context: ChunkContext,
  task: QuantizeTask,
  { codes, scales }: { codes: Int8Array; scales: Float32Array },
): void {
  const { scratch } = context, { source } = task;
  const rects = readRects(task), mark = scratch.mark();
  const { raw, values, dequantized, stats } = roomForWriting(scratch, source, rects[0]!);
  for (const rect of rects) {
    const count = rect.rows * rect.cols, own = raw.subarray(0, rawBytes(source, rect));
    const x = values.subarray(0, count), grid = bandGrid(task, rect);
    const from = hasOneScale(task)
      ? 0
      : (rect.row / task.groupRows) * (source.cols / task.groupCols);
    readRect(context, own, source, rect);
    const restore = () => decodeRect(context, x, own, source, rect);
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, {
      x,
      xhat: dequantized.subarray(0, count),
      codes: codes.subarray(rect.row * rect.cols, rect.row * rect.cols + count),
      scales: scales.subarray(from, from + groupCount(grid)),
      grid,
      stats,
      restore,
    });
  }
  context.slot.set(stats);
  writeCodes(context, task, { row: 0, col: 0, rows: source.rows, cols: source.cols }, codes);
  context.write(bytesOf(scales), task.scalesOffsetBytes);
  scratch.release(mark);
}

/** Reads, rounds and writes a layer with data. Every worker of the run calls it, for the same task. */
export function learnedLayer(
  team: TeamContext,
  task: QuantizeTask,
  { compensation, learned }: { compensation: Compensation; learned: Learned },
): void {
  const { linalg, shared } = team, grid = quantizeGrid(task);
  const results = new SearchResults(shared, chunkCount(grid), learned.options.iterations);
  if (linalg.team.index === 0) results.clear(); // seen by all after the barriers of the moments
  const oneScale = hasOneScale(task) ? new LayerScales(team, task).plain(task) : null;
  const moments = momentsOf(team, task, compensation);
  const onGpu = new MomentsOnGpu(team, task, moments);
  if (oneScale !== null && linalg.team.index === 0) {
    team.write(bytesOf(Float32Array.of(oneScale)), task.scalesOffsetBytes);
  }
  for (let chunk = team.nextChunk(); chunk !== null; chunk = team.nextChunk()) {
    const { index, context } = chunk;
    const solo = { ...context, linalg: soloContext(linalg.kernels, linalg.memory) };
    const band = { rect: chunkRect(grid, index), moments, onGpu, oneScale };
    const found = roundBand(solo, task, learned, band);
    if (found !== null) results.set(index, found);
    team.chunkDone(context);
  }
  linalg.team.barrier();
  if (linalg.team.index !== 0) return;
  onGpu.forget();
  const parts = results.all();
  if (parts.length === 0) return;
  const { optimizer } = learned, elements = task.source.rows * task.source.cols;
  const report = reportOf(parts, { optimizer, loss: "output", directions: null, elements });
  team.note({ kind: "learned", report });
}

/** Second moments of the inputs in f32, in the place of those in f64. */
function momentsOf(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): MomentBlocks {
  const { linalg } = team;
  const { size, blockSize, values } = rotatedHessian(team, task, compensation);
  const narrow = new Float32Array(values.buffer, values.byteOffset, values.length);
  linalg.team.barrier();
  // Forwards, so that no value is overwritten before it was read.
  if (linalg.team.index === 0) { for (let i = 0; i < narrow.length; i++) narrow[i] = values[i]!; }
  linalg.team.barrier();
  return { size, blockSize, values: narrow };
}

/** Rounds and writes some rows; null if they hold NaN or infinity, which the slot then reports. */
function roundBand(
  context: ChunkContext & { readonly linalg: NonNullable<ChunkContext["linalg"]> },
  task: QuantizeTask,
  { optimizer, options }: Learned,
  { rect, moments, onGpu, oneScale }: {
    rect: Rect;
    moments: MomentBlocks;
    onGpu: MomentsOnGpu;
    oneScale: number | null;
  },
): SearchResult | null {
  const { scratch, kernels, linalg } = context, { source } = task;
  const count = rect.rows * rect.cols, grid = bandGrid(task, rect), mark = scratch.mark();
  const { raw, x, codes, scales, used, stats } = roomForBand(scratch, task, rect);
  readRect(context, raw, source, rect);
  const restore = () => decodeRect(context, x, raw, source, rect);
  restore();
  let result: SearchResult | null = null;
  if (!reportNonFinite(context, x, rect, source.cols)) {
    const rotate = () => {
      if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    };
    rotate();
    if (oneScale !== null) scales[0] = oneScale;
    else {
      kernels.absmax(scales, x, grid);
      kernels.scaleFromAbsmax(scales, scales);
      if (task.scaleSearch) kernels.searchScale(scales, x, grid);
    }
    const problem = { optimizer, options, grid, weights: x, scales: used, codes };
    const nearest = () => {
      kernels.quantize(codes, x, scales, grid);
      used.set(scales);
    };
    const open = onGpu.device(scratch, `${task.name} from row ${rect.row} on`);
    nearest();
    result = open === null ? null : roundIfItWorks(open, linalg, problem, moments);
    if (result === null) {
      if (open !== null) {
        // The device has failed, and everything is used up: the CPU begins anew.
        restore();
        rotate();
        nearest();
      }
      result = roundForOutputs(linalg, problem, moments);
    }
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, { x, xhat: scratch.f32(count), codes, scales, grid, stats, restore });
    writeCodes(context, task, rect, codes);
    context.slot.set(stats);
    if (oneScale === null) {
      const first = (rect.row / task.groupRows) * (source.cols / task.groupCols);
      context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * first);
    }
  }
  scratch.release(mark);
  return result;
}

/** Rounds on a device; null if it fails. */
function roundIfItWorks(
  ...[device, linalg, problem, moments]: Parameters<typeof roundForOutputsOn>
): SearchResult | null {
  try {
    return roundForOutputsOn(device, linalg, problem, moments);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return null;
  }
}

/** Counts what {@link learnedLayer} takes. */
export function planLearnedLayer(
  memory: PlannedMemory,
  task: QuantizeTask,
  { compensation, learned }: { compensation: Compensation; learned: Learned },
): void {
  const { own, shared } = memory, grid = quantizeGrid(task), rect = chunkRect(grid, 0);
  new SearchResults(shared, chunkCount(grid), learned.options.iterations);
  if (hasOneScale(task)) planPlainScale(memory, task);
  planRotatedHessian(memory, task, compensation);
  const { onGpu } = task;
  planMomentsOnGpu(shared);
  roomForBand(own, task, rect);
  planDecode(own, task.source, rect);
  const onDevice = onGpu === undefined ? null : () => planDevice(own, rect);
  planForOutputs(own, rect, learned.optimizer, onDevice);
  own.f32(rect.rows * rect.cols);
  planDecode(own, task.source, rect);
}

function roomForBand(scratch: Scratch, task: QuantizeTask, rect: Rect) {
  const count = rect.rows * rect.cols, groups = groupCount(bandGrid(task, rect));
  return {
    ...roomForRect(scratch, task.source, rect),
    codes: scratch.i8(count),
    scales: scratch.f32(groups),
    used: scratch.f32(groups),
    stats: takeNumbers({ scratch }),
  };
}

/** Counts what {@link learnedChunk} takes. */
export function planLearnedChunk(
  memory: CountedMemory,
  task: QuantizeTask,
  learned: Learned,
): void {
  const { source } = task, rect = readRects(task)[0]!, grid = wholeGrid(task);
  roomForLayer(memory, grid);
  memory.within(() => {
    memory.u8(rawBytes(source, rect));
    planDecode(memory, source, rect);
  });
  if (task.scaleSearch) planFindScales(memory, grid);
  planProjected(memory, grid, learned);
  roomForWriting(memory, source, rect);
  planDecode(memory, source, rect);
}

function wholeGrid({ source: { rows, cols }, groupRows, groupCols }: QuantizeTask): Grid {
  return { rows, cols, groupRows, groupCols };
}

function roomForLayer(scratch: Pick<Scratch, "f32" | "i8">, grid: Grid) {
  const count = grid.rows * grid.cols, groups = groupCount(grid);
  return {
    x: scratch.f32(count),
    codes: scratch.i8(count),
    scales: scratch.f32(groups),
    used: scratch.f32(groups),
  };
}

/** Some rows, read once more, and what their codes stand for. */
function roomForWriting(scratch: Scratch, source: MatrixSource, rect: Rect) {
  const { raw, x: values } = roomForRect(scratch, source, rect);
  const dequantized = scratch.f32(rect.rows * rect.cols);
  return { raw, values, dequantized, stats: takeNumbers({ scratch }) };
}
