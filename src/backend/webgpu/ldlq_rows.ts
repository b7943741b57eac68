/**
 * Rounds rows of a layer by LDLQ on the device: the loop of `src/linalg/ldlq.ts`, where its formulas stand,
 * recorded as one batch for all columns. Weights go up, codes (and errors, if wanted) come down; nothing
 * waits in between.
 *
 * Block columns of FACTOR_BLOCK get what all columns to their right feed back as one product, large enough to
 * fill a GPU; within one, blocks of LDLQ_WIDTH_MAX columns do the same with what is left of it, and
 * `ldlq_block.wgsl` goes column by column. On the CPU there is one level of blocks. Both add up the same
 * terms in f32, in another order, so that a code differs now and then: if a weight lies next to the middle
 * between two.
 *
 * Rows go in slices that fit, two of them under way. Memory of a slice on the device, per row of n columns:
 * weights 4 n, codes n, feedback 4 * FACTOR_BLOCK bytes; 5 n more if columns are reordered, 2 n more if
 * the factor is stored in 2 bytes; and as much as comes down again for the download.
 */

import type { BlockSearch } from "../../linalg/linalg_kernels.ts";
import type { Grid } from "../backend.ts";
import { Batch, type BatchTimes, type Slot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { FACTOR_BLOCK, type GpuFactor } from "./gpu_factor.ts";
import {
  gpuBlock,
  type GpuBlockLevels,
  type GpuMatrix,
  gpuMatrix,
  LDLQ_WIDTH_MAX,
  levelSlots,
  recordGatherCodes,
  recordGatherColumns,
  recordGemm,
  recordLdlqBlock,
  recordNarrow,
} from "./record_matrix.ts";
import { storageBytes } from "./storage.ts";
import { inPairs } from "./webgpu_linalg.ts";

/** Some rows of a layer of n columns, and where results go. Views may lie in any buffer. */
export interface GpuRows {
  /** The weights in the space of the codes, f32 `[rows, n]`. */
  readonly weights: Float32Array;
  /** Out: the codes, i8 `[rows, n]`. */
  readonly codes: Int8Array;
  /** Out: `w - code * scale`, f32 `[rows, n]`; may be `weights`. Null: not wanted. */
  readonly errors: Float32Array | null;
  /** Row of the layer that the first of these is. */
  readonly firstRow: number;
  /** The grid of the whole layer, and its scales. */
  readonly grid: Grid;
  readonly scales: Float32Array;
  /** The levels that codes may be; absent: all from -127 to 127. */
  readonly levels?: GpuRowLevels | undefined;
  /** Bytes that a slice may take on the device. */
  readonly sliceBytes?: number;
}

/** The levels of rows that share no scales, as `RowLevels` of `quant/rows_in_order.ts` has them. */
export interface GpuRowLevels {
  /** Columns of a row that share a set. */
  readonly groupCols: number;
  /** The set of every group, u8 `[rows of the layer, n / groupCols]`. In and, with a search, out. */
  readonly choices: Uint8Array;
  /** i8 `[sets, LEVEL_TABLE]`. */
  readonly nearest: Int8Array;
  /** How sets are chosen when their columns are reached; null: they stay. */
  readonly search: Pick<BlockSearch, "first"> | null;
}

/** Bytes of a slice if nothing else is said: some thousand rows. */
const SLICE_BYTES = 128 << 20;

/** Rows of a slice are a multiple of it: the tiles of products are then full. */
const ROW_UNIT = 64;

/**
 * Rounds rows with `factor`. The same bits however rows are split over calls.
 *
 * @returns how long the kernels ran, if the device reports it.
 * @throws RangeError if sizes do not fit together; DeviceError if the device fails: results are
 * unspecified then, and `weights` what they were, unless they are `errors` too.
 */
export async function ldlqRows(factor: GpuFactor, rows: GpuRows): Promise<BatchTimes> {
  const { size, gpu } = factor;
  const count = rows.weights.length / size;
  checkRows(factor, rows, count);
  if (count === 0) return { kernelMs: null };
  const perSlice = sliceRows(factor, rows, count);
  const under: Promise<BatchTimes>[] = [];
  let kernelMs: number | null = 0;
  const finishOne = async (): Promise<void> => {
    const times = await under.shift()!;
    kernelMs = kernelMs === null || times.kernelMs === null ? null : kernelMs + times.kernelMs;
  };
  try {
    for (let start = 0; start < count; start += perSlice) {
      under.push(runSlice(gpu, factor, rows, start, Math.min(perSlice, count - start)));
      if (under.length > 1) await finishOne();
    }
    while (under.length > 0) await finishOne();
  } finally {
    await Promise.allSettled(under);
  }
  return { kernelMs };
}

function checkRows(factor: GpuFactor, rows: GpuRows, count: number): void {
  const { size } = factor, { weights, codes, errors, grid, scales, firstRow } = rows;
  const fits = grid.cols === size && Number.isInteger(count) && codes.length === weights.length &&
    (errors === null || errors.length === weights.length);
  if (!fits) {
    throw new RangeError(
      `Cannot round rows: ${weights.length} weights, ${codes.length} codes, ` +
        `${errors === null ? "no" : errors.length} errors of ${grid.cols} columns, the factor ` +
        `has ${size}`,
    );
  }
  checkLevelRows(factor, rows, count);
  const need = count === 0 ? 0 : Math.ceil((firstRow + count) / grid.groupRows) *
    (grid.cols / grid.groupCols);
  if (scales.length < need) {
    throw new RangeError(`Cannot round rows: ${scales.length} scales, needs ${need}`);
  }
}

function checkLevelRows(
  { size, columns, order }: GpuFactor,
  { levels, firstRow, grid }: GpuRows,
  count: number,
): void {
  if (levels === undefined) return;
  const { groupCols, choices, search } = levels;
  const need = (firstRow + count) * (size / groupCols);
  if (size % groupCols !== 0 || choices.length < need) {
    throw new RangeError(`Cannot round rows: ${choices.length} sets of levels, needs ${need}`);
  }
  if (search === null) return;
  // Each block of columns has whole groups, side by side.
  const areWhole = columns.every(({ first, width }) =>
    first % groupCols === 0 && width % groupCols === 0
  );
  const groupOf = (k: number) => Math.floor(order![k]! / groupCols);
  const areTogether = order === null ||
    order.every((_, k) => groupOf(k) === groupOf(k - k % groupCols));
  const isOneScale = grid.groupRows === 1 && grid.groupCols === size;
  if (!areWhole || !areTogether || !isOneScale || LDLQ_WIDTH_MAX % groupCols !== 0) {
    throw new RangeError(`Cannot choose sets of levels for groups of ${groupCols} columns here`);
  }
}

/** Rows that go at once: within `sliceBytes` and what a buffer may bind, slices of about one size. */
function sliceRows({ size, order, storage, gpu }: GpuFactor, rows: GpuRows, count: number): number {
  const reordered = order === null ? 0 : 5 * size;
  const half = storage === "f32" ? 0 : storageBytes(storage) * size;
  const down = size + (rows.errors === null ? 0 : 4 * size);
  const sets = rows.levels === undefined ? 0 : 8 * (size / rows.levels.groupCols);
  const rowBytes = 5 * size + 4 * FACTOR_BLOCK + reordered + half + down + sets;
  const bindable = gpu.device.limits.maxStorageBufferBindingSize / (4 * size);
  const most = Math.min((rows.sliceBytes ?? SLICE_BYTES) / rowBytes, bindable);
  const unit = most < ROW_UNIT ? 1 : ROW_UNIT;
  const slices = Math.ceil(count / Math.max(1, Math.floor(most / unit) * unit));
  return Math.ceil(count / slices / unit) * unit;
}

/** Operands of the steps of one slice. Columns are in the order of the factor. */
interface Slice {
  readonly batch: Batch;
  readonly weights: GpuMatrix;
  /** The errors as products read them: `weights`, or their copy in 2 bytes. */
  readonly errors: GpuMatrix;
  /** A power of 2 that errors are multiplied by if they are stored in f16, whose range is small. */
  readonly gain: number;
  readonly feedback: GpuMatrix;
  readonly codes: Slot;
  readonly scales: Slot;
  readonly scaleCols: number;
  readonly groupRows: number;
  readonly firstRow: number;
  readonly columnGroups: Slot;
  readonly levels?: GpuBlockLevels | undefined;
}

async function runSlice(
  gpu: Gpu,
  factor: GpuFactor,
  rows: GpuRows,
  start: number,
  count: number,
): Promise<BatchTimes> {
  const { size, order, storage } = factor;
  const { grid } = rows;
  const at = start * size, length = count * size;
  const firstRow = rows.firstRow + start;
  const batch = new Batch(`LDLQ of rows ${firstRow} to ${firstRow + count - 1}`);
  const scaleCols = grid.cols / grid.groupCols;
  const firstGroup = Math.floor(firstRow / grid.groupRows);
  const endGroup = Math.ceil((firstRow + count) / grid.groupRows);
  const scales = rows.scales.subarray(firstGroup * scaleCols, endGroup * scaleCols);
  const given = batch.input("weights", rows.weights.subarray(at, at + length));
  const ordered = order === null ? given : batch.scratch("reordered weights", 4 * length);
  if (order !== null) {
    const slot = batch.input("order", order);
    recordGatherColumns(batch, ordered, { x: given, order: slot, rows: count, cols: size });
  }
  const weights = gpuMatrix(ordered, { rows: count, cols: size });
  const levels = levelsOf(batch, rows, {
    firstRow: firstGroup * grid.groupRows,
    endRow: firstRow + count,
  });
  const codeBytes = 4 * Math.ceil(size / 4) * count;
  const slice: Slice = {
    batch,
    weights,
    errors: storage === "f32" ? weights : halfMatrix(batch, weights, storage),
    gain: storage === "f16" ? gainOf(scales) : 1,
    feedback: feedbackOf(batch, count),
    codes: batch.scratch("codes", codeBytes),
    scales: batch.input("scales", scales),
    scaleCols,
    groupRows: grid.groupRows,
    firstRow: firstRow - firstGroup * grid.groupRows,
    columnGroups: batch.input("column groups", columnGroupsOf(factor, rows)),
    levels: levels?.slots,
  };
  recordColumns(slice, factor);
  const { codes, errors } = order === null
    ? { codes: slice.codes, errors: ordered }
    : inLayerOrder(slice, order, { given, keepsErrors: rows.errors !== null });
  if (rows.errors !== null) batch.output(errors, rows.errors.subarray(at, at + length));
  const into = rows.codes.subarray(at, at + length);
  // Rows of codes begin at whole words on the device.
  const padded = size % 4 === 0 ? into : new Int8Array(codeBytes);
  batch.output(codes, padded);
  const chosen = levels?.receive() ?? (() => {});
  const times = await batch.run(gpu);
  chosen();
  if (padded !== into) copyRows(padded, into, { rows: count, cols: size });
  return times;
}

/** Puts codes, and errors if they are wanted, to the columns of the layer; errors go to `given`. */
function inLayerOrder(
  { batch, weights, codes }: Slice,
  order: Int32Array,
  { given, keepsErrors }: { readonly given: Slot; readonly keepsErrors: boolean },
): { readonly codes: Slot; readonly errors: Slot } {
  const { rows, cols } = weights;
  const moved = { order: batch.input("inverse order", inverseOf(order)), rows, cols };
  const own = batch.scratch("codes of the layer", codes.bytes);
  recordGatherCodes(batch, own, { ...moved, x: codes });
  if (keepsErrors) recordGatherColumns(batch, given, { ...moved, x: weights.slot });
  return { codes: own, errors: given };
}

function feedbackOf(batch: Batch, rows: number): GpuMatrix {
  const slot = batch.scratch("feedback", 4 * rows * FACTOR_BLOCK);
  return gpuMatrix(slot, { rows, cols: FACTOR_BLOCK });
}

/** Copies rows without the bytes that fill them up to whole words. */
function copyRows(
  padded: Int8Array,
  into: Int8Array,
  { rows, cols }: { rows: number; cols: number },
): void {
  const rowBytes = padded.length / rows;
  for (let r = 0; r < rows; r++) {
    into.set(padded.subarray(r * rowBytes, r * rowBytes + cols), r * cols);
  }
}

function halfMatrix(batch: Batch, { rows, cols }: GpuMatrix, storage: GpuFactor["storage"]) {
  const rowStride = cols + cols % 2;
  const slot = batch.scratch("errors", storageBytes(storage) * rows * rowStride);
  return gpuMatrix(slot, { rows, cols, rowStride, storage });
}

/** A power of 2 that takes errors, which are at most half a scale unless clipped, to about 1. */
function gainOf(scales: Float32Array): number {
  const largest = scales.reduce((max, scale) => Math.max(max, scale), 0);
  const isUsable = largest > 2 ** -100 && largest < 2 ** 100;
  return isUsable ? 2 ** -Math.floor(Math.log2(largest)) : 1;
}

/** Which scale, and with levels which set behind it, each column has. */
function columnGroupsOf({ size, order }: GpuFactor, { grid, levels }: GpuRows): Uint32Array {
  const groupsOf = (groupCols: number) =>
    Int32Array.from({ length: size }, (_, k) => {
      return Math.floor((order === null ? k : order[k]!) / groupCols);
    });
  const scales = groupsOf(grid.groupCols);
  return levels === undefined
    ? Uint32Array.from(scales)
    : inPairs(scales, groupsOf(levels.groupCols));
}

/** Takes levels to the device: rows `firstRow .. endRow` of the layer. */
function levelsOf(
  batch: Batch,
  { levels, grid: { cols } }: GpuRows,
  { firstRow, endRow }: { readonly firstRow: number; readonly endRow: number },
): { readonly slots: GpuBlockLevels; receive(): () => void } | undefined {
  if (levels === undefined) return undefined;
  const { search, groupCols } = levels, across = cols / groupCols;
  const sets = levels.choices.subarray(firstRow * across, endRow * across);
  const words = Uint32Array.from(sets);
  const choices = batch.input("sets of levels", words);
  const own = search === null ? null : { ...search, groupCols };
  const slots = { choices, across, ...levelSlots(batch, levels.nearest, own) };
  return {
    slots,
    /** Has what is chosen come down; what is returned puts it where it belongs. */
    receive() {
      if (search === null) return () => {};
      batch.output(choices, words);
      return () => sets.set(words);
    },
  };
}

function inverseOf(order: Int32Array): Uint32Array {
  const inverse = new Uint32Array(order.length);
  order.forEach((column, k) => inverse[column] = k);
  return inverse;
}

/** Records all block columns, from right to left. */
function recordColumns(slice: Slice, factor: GpuFactor): void {
  const { batch, errors, feedback, gain } = slice;
  const count = feedback.rows;
  for (const { first, width, end, panel } of factor.columns) {
    const later = end - first - width;
    recordGemm(batch, gpuBlock(feedback, 0, 0, count, width), {
      a: gpuBlock(errors, 0, first + width, count, later),
      b: gpuBlock(panel, width, 0, later, width),
      mode: "set",
      gain: 1 / gain,
    });
    const blocks = Math.ceil(width / LDLQ_WIDTH_MAX);
    for (let left = (blocks - 1) * LDLQ_WIDTH_MAX; left >= 0; left -= LDLQ_WIDTH_MAX) {
      recordBlock(slice, panel, first, left);
    }
  }
}

/** Records one block: columns from `left` of the block column whose first column is `first`. */
function recordBlock(slice: Slice, panel: GpuMatrix, first: number, left: number): void {
  const { batch, weights, errors, gain } = slice;
  const count = weights.rows, columns = panel.cols;
  const width = Math.min(LDLQ_WIDTH_MAX, columns - left), right = left + width;
  const feedback = gpuBlock(slice.feedback, 0, left, count, width);
  if (right < columns) {
    recordGemm(batch, feedback, {
      a: gpuBlock(errors, 0, first + right, count, columns - right),
      b: gpuBlock(panel, right, left, columns - right, width),
      mode: "add",
      gain: 1 / gain,
    });
  }
  const col = first + left;
  const rounded = gpuBlock(weights, 0, col, count, width);
  recordLdlqBlock(batch, {
    ...slice,
    codes: { slot: slice.codes, start: col / 4, rowStride: Math.ceil(weights.cols / 4) },
    weights: rounded,
    feedback,
    panel: gpuBlock(panel, left, left, width, width),
    groupsStart: col,
  });
  if (errors !== weights) {
    recordNarrow(batch, gpuBlock(errors, 0, col, count, width), rounded, gain);
  }
}
