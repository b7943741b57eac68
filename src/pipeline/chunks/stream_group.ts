/**
 * Quantizes a matrix under one scale that is too large for a chunk (a scale for a whole tensor, a row of
 * more than 2^20 elements) in passes over the file: largest magnitude, histogram for the scale search,
 * codes. Each pass reads the same segments; memory is one segment.
 */

import type { Grid } from "../../backend/backend.ts";
import {
  HISTOGRAM_BINS,
  histogramBinsPerUnit,
  searchScaleFromHistogram,
} from "../../quant/scale_search.ts";
import { chunkCount, chunkRect, type QuantizeTask, type Rect, segmentGrid } from "../tasks.ts";
import { bytesOf, type ChunkContext, SLOT } from "./chunk_context.ts";
import { decodeRect, rawBytes, readRect } from "./load_rect.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";

/** Reads, quantizes and writes the group whose rectangle is `group`. */
export function streamGroup(context: ChunkContext, task: QuantizeTask, group: Rect): void {
  const { kernels, scratch } = context;
  const segments = segmentsOf(task, group);
  const largest = Math.max(...segments.map((rect) => rect.rows * rect.cols));
  const raw = scratch.u8(Math.max(...segments.map((rect) => rawBytes(task.source, rect))));
  const x = scratch.f32(largest);
  const xhat = scratch.f32(largest);
  const codes = scratch.i8(largest);
  const scale = scratch.f32(1);
  const stats = scratch.f64(SLOT.nonFinite);
  stats.fill(0);

  const load = (rect: Rect): Float32Array => {
    const values = x.subarray(0, rect.rows * rect.cols);
    const bytes = raw.subarray(0, rawBytes(task.source, rect));
    readRect(context, bytes, task.source, rect);
    decodeRect(context, values, bytes, task.source, rect);
    return values;
  };
  const rotate = (values: Float32Array): void => {
    if (task.convrotGroupSize !== null) kernels.rotate(values, task.convrotGroupSize);
  };

  let absmax = 0;
  for (const rect of segments) {
    const values = load(rect);
    if (reportNonFinite(context, values, rect, task.source.cols)) return;
    rotate(values);
    kernels.absmax(scale, values, wholeGrid(rect));
    absmax = Math.max(absmax, scale[0]!);
  }
  scale[0] = absmax;
  kernels.scaleFromAbsmax(scale, scale);
  if (task.scaleSearch) {
    const counts = scratch.u32(HISTOGRAM_BINS);
    const total = new Float64Array(HISTOGRAM_BINS);
    for (const rect of segments) {
      const values = load(rect);
      rotate(values);
      counts.fill(0); // u32 counts of a whole tensor could overflow; those of a segment cannot
      kernels.histogram(counts, values, histogramBinsPerUnit(absmax));
      for (let bin = 0; bin < HISTOGRAM_BINS; bin++) total[bin] = total[bin]! + counts[bin]!;
    }
    scale[0] = searchScaleFromHistogram(total, absmax);
  }
  for (const rect of segments) {
    const values = load(rect);
    rotate(values);
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
      restore: () =>
        decodeRect(
          context,
          values,
          raw.subarray(0, rawBytes(task.source, rect)),
          task.source,
          rect,
        ),
    });
    writeCodes(context, task, rect, part);
  }
  context.slot.set(stats);
  const index = group.row / task.groupRows;
  context.write(bytesOf(scale), task.scalesOffsetBytes + 4 * index);
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
