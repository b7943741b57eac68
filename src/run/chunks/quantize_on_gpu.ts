/** A chunk that is rounded to nearest on the GPU, where the run has one and the chunk fits. */

import type { FloatDType } from "../../core/dtype.ts";
import { groupCount, STATS_LENGTH } from "../../backend/backend.ts";
import { type MemoryPlace, packArrays, placeOf } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Rect } from "../chunk_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import { bytesOf } from "../../core/bytes.ts";
import { type ChunkContext, SLOT, SLOT_LENGTH } from "./chunk_context.ts";
import { decodeRect } from "./load_rect.ts";
import { hasPairsOnly, mergeScratchBytes, pairOf } from "./merge_rect.ts";

/** What became of a chunk. */
export type GpuOutcome =
  /** Codes, scales and the slot are filled. */
  | "done"
  /** The slot tells where values cannot be quantized. */
  | "nonFinite"
  /** Nothing was done: the CPU has to. */
  | "notDone";

/** Bytes of scratch besides those of the chunk on the CPU. */
export function gpuScratchBytes(task: QuantizeTask, elements: number): number {
  const { source, onGpu } = task;
  if (onGpu === undefined) return 0;
  if (!isPlain(source)) return 4 * elements;
  return mergeScratchBytes(source, Math.ceil(elements / Math.max(1, source.cols)));
}

/**
 * Rounds `rect` of `task`, whose stored bytes `raw` holds, to `codes` i8 and `scales` f32. What the device
 * cannot decode (codes of another scheme, LoRAs of other kinds than pairs) is decoded here and goes up as f32.
 */
export function quantizeOnGpu(
  context: ChunkContext,
  task: QuantizeTask,
  { rect, raw, codes, scales }: {
    readonly rect: Rect;
    readonly raw: Uint8Array;
    readonly codes: Int8Array;
    readonly scales: Float32Array;
  },
): GpuOutcome {
  const { gpu, scratch, slot } = context;
  const { source, groupRows, groupCols, convrotGroupSize, scaleSearch, onGpu } = task;
  const count = rect.rows * rect.cols;
  if (!gpu || onGpu === undefined || count > onGpu.maxElements) return "notDone";
  const grid = { rows: rect.rows, cols: rect.cols, groupRows, groupCols };
  if (scales.length !== groupCount(grid)) throw new RangeError("scales do not fit the grid");
  const mark = scratch.mark();
  const numbers = scratch.f64(SLOT_LENGTH);
  let stored: MemoryPlace, dtype: FloatDType, changes: readonly unknown[] = [];
  if (source.dtype !== "I8" && isPlain(source)) {
    const pairs = (source.deltas ?? []).flatMap((delta) => pairOf(context, delta, rect) ?? []);
    changes = pairs.map(packArrays);
    stored = placeOf(raw);
    dtype = source.dtype;
  } else {
    const x = scratch.f32(count);
    decodeRect(context, x, raw, source, rect);
    stored = placeOf(bytesOf(x));
    dtype = "F32";
  }
  const isDone = gpu.run({
    op: "quantize",
    raw: stored,
    dtype,
    changes,
    grid,
    convrotGroupSize,
    scaleSearch,
    codes: placeOf(codes),
    scales: placeOf(scales),
    numbers: placeOf(numbers),
  });
  const nonFinite = numbers[SLOT.nonFinite]!, first = numbers[SLOT.firstNonFinite]!;
  const sums = numbers.slice(0, STATS_LENGTH);
  scratch.release(mark);
  if (!isDone) return "notDone";
  if (nonFinite > 0) {
    const row = rect.row + Math.floor(first / rect.cols);
    slot[SLOT.nonFinite] = nonFinite;
    slot[SLOT.firstNonFinite] = row * source.cols + rect.col + first % rect.cols;
    return "nonFinite";
  }
  slot.set(sums);
  return "done";
}

/** Whether the values of `source` are its bytes, and at most pairs of factors go into them. */
function isPlain(source: MatrixSource): boolean {
  return source.dtype !== "I8" && source.scale === null && source.convrotGroupSize === null &&
    source.transform === undefined && source.columnFactors === undefined &&
    source.rowFactors === undefined && source.smoothFactors === undefined &&
    hasPairsOnly(source);
}
