/** A chunk that is rounded to nearest on the GPU, if the run has one and the chunk fits. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { FloatDType } from "../../core/dtype.ts";
import { groupCount } from "../../backend/backend.ts";
import { quantizeCheck, type RoundedLevels } from "../checks/quantize_check.ts";
import type { StoredRows } from "../checks/stored_rows.ts";
import {
  type AddedRows,
  packArrays,
  placeOf,
  type RequestedRounding,
  type RequestedSet,
} from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Rect } from "../chunk_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import { bytesOf } from "../../core/bytes.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { decodeRect, isAsStored, planDecode } from "./load_rect.ts";
import { addedRows, hasPairsOnly, planMerge } from "./merge_rect.ts";

/** Counts what {@link quantizeOnGpu} takes besides what it is given. */
export function planOnGpu(
  memory: CountedMemory,
  { source, onGpu }: QuantizeTask,
  { rows, cols }: Pick<Rect, "rows" | "cols">,
): void {
  if (onGpu === undefined) return;
  if (isPlain(source)) planMerge(memory, source, rows, { areLocal: true, together: true });
  else {
    memory.within(() => {
      memory.f32(rows * cols);
      planDecode(memory, source, { rows, cols }, { areLocal: true });
    });
  }
}

/**
 * Rounds `rect` of `task`, whose stored bytes `raw` holds, to `codes` i8 and `scales` f32, and checks some of
 * it. Values that the device cannot decode (codes of another scheme, LoRAs of other kinds than pairs) is decoded
 * here and goes up as f32. False: nothing was done, the CPU has to. NaN and infinite values are not looked for.
 */
export function quantizeOnGpu(
  context: ChunkContext,
  task: QuantizeTask,
  { rect, raw, codes, scales, levels = null }: {
    readonly rect: Rect;
    readonly raw: Uint8Array;
    readonly codes: Int8Array;
    readonly scales: Float32Array;
    /** The levels that codes may be, and u8 `[rows, cols / groupCols]` for the sets of groups. */
    readonly levels?: RoundedLevels | null;
  },
): boolean {
  const { gpu, scratch } = context;
  const { source, groupRows, groupCols, convrotGroupSize, scaleSearch, onGpu } = task;
  const count = rect.rows * rect.cols;
  if (!gpu || onGpu === undefined || count > onGpu.maxElements) return false;
  const grid = { rows: rect.rows, cols: rect.cols, groupRows, groupCols };
  if (scales.length !== groupCount(grid)) throw new RangeError("scales do not fit the grid");
  const mark = scratch.mark();
  const sent = storedRect(context, source, raw, rect), { stored, dtype, changes } = sent;
  const request = {
    op: "quantize",
    raw: placeOf(stored),
    dtype,
    changes: changes.map(packArrays),
    grid,
    convrotGroupSize,
    scaleSearch,
    ...(levels === null ? {} : { levels: requestedLevels(levels) }),
    codes: placeOf(codes),
    scales: placeOf(scales),
  } as const;
  const shape = { grid, convrotGroupSize, scaleSearch };
  const given = storedRows(task, rect, sent);
  const isDone = gpu.run(request, quantizeCheck({ ...given, ...shape, codes, scales, levels }));
  scratch.release(mark);
  return isDone;
}

/** What the check of a result has to know of what went up for it. */
export function storedRows(
  { name, onGpu }: QuantizeTask,
  { row, col }: Rect,
  { stored, dtype, changes }: ReturnType<typeof storedRect>,
): StoredRows {
  return {
    name: `${JSON.stringify(name)} from row ${row} on`,
    raw: stored,
    dtype,
    changes,
    isFirst: onGpu?.isFirst === true && row === 0 && col === 0,
  };
}

function requestedLevels({ rounding, choices }: RoundedLevels): RequestedRounding | RequestedSet {
  if (rounding.kind === "one") {
    const { nearest, shares } = rounding;
    const places = { nearest: placeOf(nearest), choices: placeOf(choices) };
    return { ...rounding, ...places, shares: shares && [...shares] };
  }
  const { kind, groupCols, steps, first } = rounding;
  const tables = { steps: placeOf(steps), first: placeOf(first) };
  return { kind, groupCols, ...tables, choices: placeOf(choices) };
}

/** What goes up of a rectangle. */
export interface UploadedRect {
  readonly stored: Uint8Array;
  readonly dtype: FloatDType;
  readonly changes: readonly AddedRows[];
}

/** Returns the stored bytes of `rect` as the device takes them, in scratch that the caller gives back. */
export function storedRect(
  context: ChunkContext,
  source: MatrixSource,
  raw: Uint8Array,
  rect: Rect,
): UploadedRect {
  const { dtype } = source;
  if (dtype !== "I8" && isPlain(source)) {
    return { stored: raw, dtype, changes: addedRows(context, source, rect) };
  }
  const x = context.scratch.f32(rect.rows * rect.cols);
  decodeRect(context, x, raw, source, rect);
  return { stored: bytesOf(x), dtype: "F32", changes: [] };
}

/** Whether the values of `source` are its bytes, and at most pairs of factors go into them. */
function isPlain(source: MatrixSource): boolean {
  return isAsStored(source) && hasPairsOnly(source);
}
