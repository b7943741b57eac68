/**
 * Rounds a rectangle to nearest on the device, from its stored bytes to codes and scales, in one
 * submission: the same kernels in the same order as on the CPU, so that codes and scales are the same bits.
 *
 * Errors are not measured here: figures are made on the CPU, from the codes that go into the file.
 *
 * Bytes. Up: the rectangle as it is stored (2 per element of BF16); down: 1 per element. On the device: 4 per
 * element and what goes up and down.
 */

import type { FloatDType } from "../../core/dtype.ts";
import { type FloatRounding, type Grid, groupCount, type OneSet } from "../backend.ts";
import type { ShortMatrix } from "../../linalg/linalg_kernels.ts";
import { Batch, type BatchTimes, type Slot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { recordRoundFloats } from "./record_floats.ts";
import {
  type GpuRounding,
  recordQuantizeLevels,
  recordRoundToLevels,
  recordSearchClip,
} from "./record_levels.ts";
import { recordAddLowRank, recordFeedBack } from "./record_products.ts";
import {
  recordAbsmax,
  recordDecode,
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

/** The same of 16-bit integers, at most 128 terms: `feedBack`. */
export interface ShortChange {
  /** The first of the rows. */
  readonly firstRow: number;
  readonly rows: number;
  readonly terms: number;
  /** Of `rows` rows. */
  readonly left: ShortMatrix;
  /** Of all columns. */
  readonly right: ShortMatrix;
}

/** Levels of groups that choose among sets of them, or have one. */
export interface RectLevels {
  readonly rounding: GpuRounding | OneSet;
  /** Out: u8 `[rows, cols / rounding.groupCols]`; left alone if there is one set. */
  readonly choices: Uint8Array;
}

/** Stored values of a rectangle. Views may lie in shared memory. */
export interface StoredRect {
  /** The bytes of all elements, of `dtype`, row-major. */
  readonly raw: Uint8Array;
  readonly dtype: FloatDType;
  /** Terms that are added to the values: LoRAs. Absent: nothing. */
  readonly changes?: readonly (LowRankChange | ShortChange)[];
}

/** Input and output of rounding. */
export interface QuantizeRect extends StoredRect {
  readonly grid: Grid;
  /** Group that is rotated before rounding; null: none. */
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** The levels that codes may be; absent: all from -127 to 127. */
  readonly levels?: RectLevels | undefined;
  /** Out: i8 `[rows, cols]`. */
  readonly codes: Int8Array;
  /** Out: f32 `[groups]`. */
  readonly scales: Float32Array;
}

/**
 * Carries it out, and returns how long its kernels ran. If values are NaN or infinite, results mean nothing.
 *
 * @throws DeviceError if the device cannot.
 */
export async function quantizeRect(gpu: Gpu, rect: QuantizeRect): Promise<BatchTimes> {
  const { grid, convrotGroupSize, codes, scales } = rect;
  const count = grid.rows * grid.cols;
  const batch = new Batch("quantize"), x = recordStored(batch, rect, grid);
  if (convrotGroupSize !== null) recordRotate(batch, x, count, convrotGroupSize);
  const scaleSlot = batch.scratch("scales", 4 * groupCount(grid));
  recordAbsmax(batch, scaleSlot, x, grid);
  const codeSlot = batch.scratch("codes", count), { levels } = rect;
  if (levels?.rounding.kind !== "one") recordScaleFromAbsmax(batch, scaleSlot, groupCount(grid));
  if (levels !== undefined) {
    recordLevels(batch, levels, { codes: codeSlot, x, scales: scaleSlot, grid });
  } else {
    if (rect.scaleSearch) recordSearchScale(batch, scaleSlot, x, grid);
    recordQuantize(batch, codeSlot, { x, scales: scaleSlot, grid });
  }
  batch.output(codeSlot, codes);
  batch.output(scaleSlot, scales);
  return await batch.run(gpu);
}

/** A rectangle that becomes floats of few bits. */
export interface FloatsRect extends StoredRect {
  readonly rows: number;
  readonly cols: number;
  readonly rounding: FloatRounding;
  /** Out: u8, see `roundFloats`. */
  readonly codes: Uint8Array;
  /** Out: u8 `[groups]`. */
  readonly groupScales: Uint8Array;
}

/** As {@link quantizeRect}, to floats under a scale that is given. */
export async function floatsRect(gpu: Gpu, rect: FloatsRect): Promise<BatchTimes> {
  const { rows, cols, rounding, codes, groupScales } = rect;
  const batch = new Batch("round to floats"), x = recordStored(batch, rect, { rows, cols });
  const found = {
    codes: batch.scratch("codes", codes.byteLength),
    groupScales: batch.scratch("group scales", groupScales.byteLength),
  };
  recordRoundFloats(batch, found, { x, count: rows * cols, rounding });
  batch.output(found.codes, codes);
  batch.output(found.groupScales, groupScales);
  return await batch.run(gpu);
}

/** Records how stored values become f32. Returns where they are. */
function recordStored(
  batch: Batch,
  { raw, dtype, changes = [] }: StoredRect,
  { rows, cols }: Pick<Grid, "rows" | "cols">,
): Slot {
  const count = rows * cols, source = batch.input("source", raw);
  const x = batch.scratch("values", 4 * count);
  // Inputs come before what is recorded.
  const recorders = changes.map((change) => recorderOf(batch, change, cols));
  recordDecode(batch, x, source, { count, dtype });
  for (const record of recorders) record(x);
  return x;
}

/** Records how values become levels. `scales` are the largest magnitudes of rows if all groups have one set. */
function recordLevels(
  batch: Batch,
  { rounding, choices }: RectLevels,
  { codes, x, scales, grid }: {
    readonly codes: Slot;
    readonly x: Slot;
    readonly scales: Slot;
    readonly grid: Grid;
  },
): void {
  if (rounding.kind !== "one") {
    const sets = batch.scratch("sets", choices.byteLength);
    recordRoundToLevels(batch, { codes, choices: sets }, { x, scales, grid, rounding });
    return batch.output(sets, choices);
  }
  const { rows, cols } = grid, { shares, most, groupCols } = rounding;
  recordScaleFromAbsmax(batch, scales, rows, most);
  if (shares !== null) recordSearchClip(batch, scales, { x, rows, cols, shares });
  const nearest = batch.input("levels", rounding.nearest);
  const sets = batch.zeros("sets", choices.byteLength);
  recordQuantizeLevels(batch, codes, { x, scales, choices: sets, grid, nearest, groupCols });
}

/** Takes what a change is made of; returns what records it. */
function recorderOf(
  batch: Batch,
  change: LowRankChange | ShortChange,
  cols: number,
): (x: Slot) => void {
  const start = change.firstRow * cols;
  if ("a" in change) {
    const b = batch.input("b", change.b), a = batch.input("a", change.a), { rank } = change;
    const shape = { rows: change.b.length / rank, cols, rank };
    return (x) => recordAddLowRank(batch, x, { b, a, shape, start });
  }
  const short = ({ pairs, scales }: ShortMatrix, name: string) => ({
    pairs: batch.input(`pairs of ${name}`, pairs),
    scales: batch.input(`scales of ${name}`, scales),
  });
  const e = short(change.left, "b"), l = short(change.right, "a"), { rows, terms } = change;
  return (x) => recordFeedBack(batch, x, { e, l, shape: { rows, cols, terms }, start });
}
