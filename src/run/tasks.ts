/**
 * Tasks and chunks: what the workers carry out. A task concerns one tensor; a chunk is the part of it
 * that one worker reads, computes and writes in one go. Everything here is plain data (it crosses to
 * the workers by structured clone) and pure geometry.
 */

import type { Compensation } from "../calibration/compensation.ts";
import type { LayerInputs, MeanInput } from "../calibration/layer_inputs.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { SEGMENT_ELEMENTS } from "../plan/segment_elements.ts";
import type { GpuStorage } from "./gpu_requests.ts";
import type { Transform } from "../quant/scheme.ts";
import type { LearnedOptimizer, LearnedOptions } from "../quant/learned/options.ts";
import { type DType, DTYPE_BITS } from "../core/dtype.ts";

/** Elements of one chunk: 2 MiB of BF16. Large enough for the disk, small enough for a cache. */
export const CHUNK_ELEMENTS = 1 << 20;

/** Elements that are worked on at a time: an f32 tile of 256 KiB stays in a core's second-level cache. */
export const TILE_ELEMENTS = 1 << 16;

/** Bytes of one chunk of a plain copy. */
export const COPY_BYTES = 2 << 20;

/** Bytes are moved as they are. */
export interface CopyTask {
  readonly kind: "copy";
  readonly name: string;
  readonly file: number;
  readonly offsetBytes: number;
  readonly byteLength: number;
  readonly outOffsetBytes: number;
}

/** How codes are learned. */
export interface Learned {
  readonly optimizer: LearnedOptimizer;
  readonly options: LearnedOptions;
  readonly seed: number;
}

/** A float matrix becomes codes and scales. */
export interface QuantizeTask {
  readonly kind: "quantize";
  readonly name: string;
  readonly source: MatrixSource;
  readonly groupRows: number;
  readonly groupCols: number;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** Null: round to nearest. */
  readonly compensation: Compensation | null;
  /** Codes are those of the transformed weight. */
  readonly transform?: Transform;
  /** Codes are learned: for the outputs where there is `compensation`, else by singular directions. */
  readonly learned?: Learned;
  /** What of it goes to the GPU, where the run has one. */
  readonly onGpu?: OnGpu;
  readonly codesOffsetBytes: number;
  readonly scalesOffsetBytes: number;
}

/** Chunks that the GPU rounds. */
export interface OnGpu {
  /** Elements of a chunk. */
  readonly chunkElements: number;
  /** Larger ones stay on the CPU. */
  readonly maxElements: number;
  /** How the device stores the factor of a compensated layer. */
  readonly storage: GpuStorage;
  /** Whether it sums up the second moments of the layer's inputs. */
  readonly sumsMoments?: boolean;
}

/** A matrix (any shape, as one row per outer index) becomes F16, BF16 or F32. */
export interface CastTask {
  readonly kind: "cast";
  readonly name: string;
  readonly source: MatrixSource;
  readonly dtype: "F16" | "BF16" | "F32";
  readonly outOffsetBytes: number;
}

/** The largest magnitude of each column, for what follows from it on the main thread. */
export interface ColumnMaxTask {
  readonly kind: "columnMax";
  readonly name: string;
  readonly source: MatrixSource;
  /** Shared f32 `[chunks, cols]`: every chunk fills its row. */
  readonly out: Float32Array;
}

/** Counts what cannot be quantized or cast: NaN, infinities, magnitudes above `limit`. */
export interface ScanTask {
  readonly kind: "scan";
  readonly name: string;
  readonly source: MatrixSource;
  readonly limit: number;
}

/** Errors of a stored matrix against its source, in original space. */
export interface CompareTask {
  readonly kind: "compare";
  readonly name: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
}

/** Inputs in memory at a time where outputs are measured. */
export const MEASURED_AT_A_TIME = 128;

/** Errors of a layer's outputs: of what is stored against its source, for given inputs. */
export interface MeasureTask {
  readonly kind: "measure";
  readonly name: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
  /** Biases of the layer, where they differ; null: they do not. */
  readonly bias: { readonly reference: MatrixSource; readonly stored: MatrixSource } | null;
  readonly inputs: LayerInputs;
  /** Products are made on the GPU, where the run has one. */
  readonly onGpu?: Pick<OnGpu, "chunkElements">;
}

/** Adds to a bias what rounding took from the mean output: `b + mean(x) · (W − Ŵ)ᵀ`. */
export interface CorrectBiasTask {
  readonly kind: "correctBias";
  readonly name: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
  readonly mean: MeanInput;
  readonly bias: MatrixSource;
  readonly dtype: "F16" | "BF16" | "F32";
  readonly outOffsetBytes: number;
}

/** Writes the scale of static activations: the largest magnitude of the inputs / 127. */
export interface InputScaleTask {
  readonly kind: "inputScale";
  readonly name: string;
  readonly inputs: LayerInputs;
  /** The number is written as it is, not computed from inputs. */
  readonly isGiven: boolean;
  /** The inputs are rotated before they are quantized; null: they are not. */
  readonly convrotGroupSize: number | null;
  readonly outOffsetBytes: number;
}

/** Counts bytes that differ between two byte ranges of the same length. */
export interface CompareBytesTask {
  readonly kind: "compareBytes";
  readonly name: string;
  readonly file: number;
  readonly offsetBytes: number;
  readonly otherFile: number;
  readonly otherOffsetBytes: number;
  readonly byteLength: number;
}

/** Work on one tensor. */
export type Task =
  | CopyTask
  | QuantizeTask
  | CastTask
  | ColumnMaxTask
  | ScanTask
  | CompareTask
  | CompareBytesTask
  | MeasureTask
  | CorrectBiasTask
  | InputScaleTask;

/** A rectangle of a matrix, in elements; for byte tasks one row of bytes. */
export interface Rect {
  readonly row: number;
  readonly col: number;
  readonly rows: number;
  readonly cols: number;
}

/** How a task is cut: `rowStep x colStep` rectangles, the last ones shorter. */
export interface ChunkGrid {
  readonly rows: number;
  readonly cols: number;
  readonly rowStep: number;
  readonly colStep: number;
  /** The rectangle is one whole scale group that is streamed in segments, because it is too large. */
  readonly streamed: boolean;
}

function rowGrid(rows: number, cols: number, elements: number): ChunkGrid {
  if (cols > elements) return { rows, cols, rowStep: 1, colStep: elements, streamed: false };
  const rowStep = Math.max(1, Math.floor(elements / Math.max(1, cols)));
  return {
    rows,
    cols,
    rowStep: Math.min(rowStep, Math.max(1, rows)),
    colStep: cols,
    streamed: false,
  };
}

/** Rows of a compensated layer that are rounded in one go: whole scale groups, some 4 MiB as f32. */
const BAND_ROWS = 256, BAND_ELEMENTS = 1 << 22;

/** The same on a GPU, which a few hundred rows do not fill. */
const GPU_BAND_ROWS = 1024;

function bandGrid(task: QuantizeTask): ChunkGrid {
  const { rows, cols } = task.source;
  const unit = task.groupRows === rows ? 1 : task.groupRows;
  // Every band of learned codes is searched by itself: other bands, other codes.
  const isLarge = task.onGpu !== undefined && task.learned === undefined;
  const most = isLarge ? GPU_BAND_ROWS : BAND_ROWS;
  const bands = Math.floor(Math.min(most, BAND_ELEMENTS / Math.max(1, cols)) / unit);
  const rowStep = Math.min(rows, Math.max(1, bands) * unit);
  return { rows, cols, rowStep, colStep: cols, streamed: false };
}

function quantizeGrid(task: QuantizeTask): ChunkGrid {
  const { rows, cols } = task.source;
  const { groupRows, groupCols } = task;
  const elements = task.onGpu?.chunkElements ?? CHUNK_ELEMENTS;
  if (isTeamTask(task)) return bandGrid(task);
  if (task.learned !== undefined) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false };
  }
  const isOneScale = groupRows === rows && groupCols === cols && rows > 1;
  if (task.source.transform !== undefined && !isOneScale) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false }; // decoded as a whole
  }
  if (isOneScale) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: true };
  }
  if (groupRows === 1 && cols > elements && groupCols === cols) {
    return { rows, cols, rowStep: 1, colStep: cols, streamed: true };
  }
  if (groupRows === 1) {
    const grid = rowGrid(rows, cols, elements);
    if (grid.colStep === cols) return grid;
    const rotations = lcm(task.convrotGroupSize ?? 1, task.source.convrotGroupSize ?? 1);
    const unit = lcm(groupCols, rotations);
    return { ...grid, colStep: Math.max(unit, Math.floor(grid.colStep / unit) * unit) };
  }
  const tiles = Math.max(1, Math.floor(elements / (groupRows * groupCols)));
  // The rows of a LoRA's change are computed whole, those of packed codes are read whole.
  const { deltas, packed, convrotGroupSize: stored } = task.source;
  const isWhole = deltas !== undefined || packed !== undefined || stored !== null;
  const colStep = isWhole ? cols : Math.min(cols, tiles * groupCols);
  const bands = colStep === cols ? Math.max(1, Math.floor(elements / (groupRows * cols))) : 1;
  return { rows, cols, rowStep: Math.min(rows, bands * groupRows), colStep, streamed: false };
}

function lcm(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** The segments of a streamed group: whole rows, or parts of a row of whole rotation groups. */
export function segmentGrid(task: QuantizeTask): ChunkGrid {
  return alignedRowGrid([task.source, task], SEGMENT_ELEMENTS);
}

/** The rows of a chunk must hold whole rotation groups of everything it is read or stored as. */
function alignedRowGrid(
  matrices: readonly [MatrixSource, ...{ readonly convrotGroupSize: number | null }[]],
  elements: number = CHUNK_ELEMENTS,
): ChunkGrid {
  const { rows, cols } = matrices[0];
  if (matrices.some((m) => "transform" in m && m.transform !== undefined)) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false };
  }
  const grid = rowGrid(rows, cols, elements);
  if (grid.colStep === cols) return grid;
  const unit = matrices.reduce((unit, m) => lcm(unit, m.convrotGroupSize ?? 1), 1);
  return { ...grid, colStep: Math.max(unit, Math.floor(grid.colStep / unit) * unit) };
}

/** Returns how `task` is cut into chunks. Depends on the task alone, so results do not depend on who runs it. */
export function chunkGrid(task: Task): ChunkGrid {
  switch (task.kind) {
    case "copy":
    case "compareBytes":
      return rowGrid(1, task.byteLength, COPY_BYTES);
    case "quantize":
      return quantizeGrid(task);
    case "columnMax":
      return wholeRowGrid(task.source, task.source);
    case "cast":
    case "scan":
      return alignedRowGrid([task.source]);
    case "compare":
      return alignedRowGrid([task.reference, task.stored]);
    case "measure":
      return wholeRowGrid(task.reference, task.stored, task.onGpu?.chunkElements);
    case "correctBias":
      return wholeRowGrid(task.reference, task.stored);
    case "inputScale":
      return rowGrid(1, task.inputs.cols, Math.max(1, task.inputs.cols));
  }
}

/** Whole rows always, for products over them; all of a weight that is stored transformed. */
function wholeRowGrid(
  { rows, cols }: MatrixSource,
  { transform }: MatrixSource,
  elements: number = CHUNK_ELEMENTS,
): ChunkGrid {
  const rowStep = transform !== undefined
    ? rows
    : Math.min(rows, Math.max(1, Math.floor(elements / Math.max(1, cols))));
  return { rows, cols, rowStep: Math.max(1, rowStep), colStep: cols, streamed: false };
}

/** Whether all workers prepare the task together before they take its chunks. */
export function isTeamTask(task: Task): task is TeamTask {
  return task.kind === "quantize" && (task.compensation !== null || task.transform !== undefined);
}

/** A layer that takes all workers: errors are compensated, or codes are those of the transformed weight. */
export type TeamTask =
  & QuantizeTask
  & ({ readonly compensation: Compensation } | { readonly transform: Transform });

/** Number of chunks of a grid; 0 for an empty tensor. */
export function chunkCount(grid: ChunkGrid): number {
  if (grid.rows === 0 || grid.cols === 0) return 0;
  return Math.ceil(grid.rows / grid.rowStep) * Math.ceil(grid.cols / grid.colStep);
}

/** Returns chunk `index` of a grid, row-major. */
export function chunkRect(grid: ChunkGrid, index: number): Rect {
  const across = Math.ceil(grid.cols / grid.colStep);
  const row = Math.floor(index / across) * grid.rowStep;
  const col = (index % across) * grid.colStep;
  return {
    row,
    col,
    rows: Math.min(grid.rowStep, grid.rows - row),
    cols: Math.min(grid.colStep, grid.cols - col),
  };
}

/** Bytes of one element of `dtype`; float dtypes and I8 are never below one byte. */
export function elementBytes(dtype: DType): number {
  return DTYPE_BITS[dtype] / 8;
}
