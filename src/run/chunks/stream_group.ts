/**
 * Quantizes a matrix under one scale that is too large for a chunk (a scale for a whole tensor, a row of
 * more than 2^20 elements) in passes over the file: largest magnitude, histogram for the scale search,
 * codes. Each pass reads the same segments; memory is one segment.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Grid } from "../../backend/backend.ts";
import {
  HISTOGRAM_BINS,
  histogramBinsPerUnit,
  searchScaleFromHistogram,
} from "../../quant/scale_search.ts";
import { chunkCount, chunkRect, type Rect } from "../chunk_grid.ts";
import type { QuantizeTask } from "../tasks.ts";
import { segmentGrid } from "../quantize_grid.ts";
import { bytesOf } from "../../core/bytes.ts";
import { type ChunkContext, type Scratch, takeNumbers } from "./chunk_context.ts";
import { decodeRect, planDecode, rawBytes, readRect } from "./load_rect.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";

/** The segments of a group, in turn: the bytes of one and its values. */
function roomForSegments(
  scratch: Pick<Scratch, "u8" | "f32">,
  { source }: QuantizeTask,
  rects: readonly Rect[],
) {
  const most = (of: (rect: Rect) => number) => Math.max(...rects.map(of));
  return {
    raw: scratch.u8(most((rect) => rawBytes(source, rect))),
    x: scratch.f32(most((rect) => rect.rows * rect.cols)),
  };
}

/** Memory to write a group besides its segments. */
function roomForGroup(scratch: Scratch, largest: number) {
  return {
    xhat: scratch.f32(largest),
    codes: scratch.i8(largest),
    scale: scratch.f32(1),
    stats: takeNumbers({ scratch }),
  };
}

/** Counts what {@link wholeScale} takes. */
export function planWholeScale(memory: CountedMemory, task: QuantizeTask): void {
  const rect = chunkRect(segmentGrid(task), 0);
  memory.within(() => {
    roomForSegments(memory, task, [rect]);
    memory.f32(1);
    memory.within(() => planDecode(memory, task.source, rect));
    if (!task.scaleSearch) return;
    memory.u32(HISTOGRAM_BINS);
    planDecode(memory, task.source, rect);
  });
}

/** Counts what {@link streamGroup} takes. */
export function planStream(memory: CountedMemory, task: QuantizeTask): void {
  const rect = chunkRect(segmentGrid(task), 0);
  planWholeScale(memory, task);
  roomForSegments(memory, task, [rect]);
  roomForGroup(memory, rect.rows * rect.cols);
  planDecode(memory, task.source, rect);
}

/** Reads, quantizes and writes the group whose rectangle is `group`. */
export function streamGroup(context: ChunkContext, task: QuantizeTask, group: Rect): void {
  const { kernels, scratch } = context;
  const found = wholeScale(context, task, group);
  if (found === null) return;
  const segments = new GroupSegments(context, task, group);
  const { xhat, codes, scale, stats } = roomForGroup(scratch, segments.largest);
  scale[0] = found;
  for (const rect of segments.rects) {
    const values = segments.load(rect);
    segments.rotate(values);
    const part = codes.subarray(0, values.length);
    const grid = wholeGrid(rect);
    kernels.quantize(part, values, scale, grid);
    addErrors(context, task, {
      x: values,
      xhat: xhat.subarray(0, values.length),
      codes: part,
      scales: scale,
      grid,
      stats,
      restore: () => segments.decode(rect),
    });
    writeCodes(context, task, rect, part);
  }
  context.slot.set(stats);
  const index = group.row / task.groupRows;
  context.write(bytesOf(scale), task.scalesOffsetBytes + 4 * index);
}

/**
 * Returns the one scale of `group`, in one or two passes over it; null if it holds NaN or infinity,
 * which the slot then reports. Gives back the memory it takes.
 */
export function wholeScale(context: ChunkContext, task: QuantizeTask, group: Rect): number | null {
  const { kernels, scratch } = context;
  const mark = scratch.mark();
  const segments = new GroupSegments(context, task, group);
  const scale = scratch.f32(1);
  let absmax = 0;
  for (const rect of segments.rects) {
    const values = segments.load(rect);
    if (reportNonFinite(context, values, rect, task.source.cols)) return null;
    segments.rotate(values);
    kernels.absmax(scale, values, wholeGrid(rect));
    absmax = Math.max(absmax, scale[0]!);
  }
  scale[0] = absmax;
  kernels.scaleFromAbsmax(scale, scale);
  if (task.scaleSearch) {
    const counts = scratch.u32(HISTOGRAM_BINS);
    const total = new Float64Array(HISTOGRAM_BINS);
    for (const rect of segments.rects) {
      const values = segments.load(rect);
      segments.rotate(values);
      counts.fill(0); // u32 counts of a whole tensor could overflow; those of a segment cannot
      kernels.histogram(counts, values, histogramBinsPerUnit(absmax));
      for (let bin = 0; bin < HISTOGRAM_BINS; bin++) total[bin] = total[bin]! + counts[bin]!;
    }
    scale[0] = searchScaleFromHistogram(total, absmax);
  }
  const found = scale[0]!;
  scratch.release(mark);
  return found;
}

/** The segments of a group, read one after the other into the same memory. */
class GroupSegments {
  readonly rects: readonly Rect[];
  /** Elements of the largest segment. */
  readonly largest: number;
  readonly #context: ChunkContext;
  readonly #task: QuantizeTask;
  readonly #raw: Uint8Array;
  readonly #x: Float32Array;

  constructor(context: ChunkContext, task: QuantizeTask, group: Rect) {
    this.#context = context;
    this.#task = task;
    this.rects = segmentsOf(task, group);
    this.largest = Math.max(...this.rects.map((rect) => rect.rows * rect.cols));
    const { raw, x } = roomForSegments(context.scratch, task, this.rects);
    this.#raw = raw;
    this.#x = x;
  }

  /** Reads a segment; returns its values, which stay until the next call. */
  load(rect: Rect): Float32Array {
    readRect(this.#context, this.#bytes(rect), this.#task.source, rect);
    return this.decode(rect);
  }

  /** Decodes the segment that was read last once more. */
  decode(rect: Rect): Float32Array {
    const values = this.#x.subarray(0, rect.rows * rect.cols);
    decodeRect(this.#context, values, this.#bytes(rect), this.#task.source, rect);
    return values;
  }

  rotate(values: Float32Array): void {
    const { convrotGroupSize } = this.#task;
    if (convrotGroupSize !== null) this.#context.kernels.rotate(values, convrotGroupSize);
  }

  #bytes(rect: Rect): Uint8Array {
    return this.#raw.subarray(0, rawBytes(this.#task.source, rect));
  }
}

/** One scale for all of `rect`. */
function wholeGrid(rect: Rect): Grid {
  return { rows: rect.rows, cols: rect.cols, groupRows: rect.rows, groupCols: rect.cols };
}

/** The segments of the task that lie in `group`, which holds whole rows. */
function segmentsOf(task: QuantizeTask, group: Rect): Rect[] {
  const grid = { ...segmentGrid(task), rows: group.rows };
  return Array.from({ length: chunkCount(grid) }, (_, index) => {
    const rect = chunkRect(grid, index);
    return { ...rect, row: rect.row + group.row };
  });
}
