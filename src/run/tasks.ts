/**
 * Tasks: what the workers carry out. A task concerns one tensor. Everything here is plain data: it crosses to
 * the workers by structured clone. `task_kinds.ts` has what each kind of them does.
 */

import type { Compensation } from "../calibration/compensation.ts";
import type { LayerInputs, MeanInput } from "../calibration/layer_inputs.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import type { EncoderGraph } from "../presets/encoders/encoder_graph.ts";
import type { GpuStorage } from "./gpu_requests.ts";
import type { FloatScheme } from "../quant/float_grid.ts";
import type { LevelScheme } from "../quant/level_grid.ts";
import type { Transform } from "../quant/scheme.ts";
import type { LearnedOptimizer, LearnedOptions } from "../quant/learned/options.ts";
import { type DType, DTYPE_BITS } from "../core/dtype.ts";

/** Elements that are worked on at a time: an f32 tile of 256 KiB stays in a core's second-level cache. */
export const TILE_ELEMENTS = 1 << 16;

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

/** Which expert of a bank a task is about. */
export interface ExpertOf {
  readonly index: number;
  /** How the values of the whole bank are read. */
  readonly bank: MatrixSource;
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
  /** The levels of a format whose weights may not be any int8, and where the set of each group goes. */
  readonly levels?: TaskLevels;
  /** Weights become floats of few bits. */
  readonly floats?: TaskFloats;
  /** Codes are those of the transformed weight. */
  readonly transform?: Transform;
  /** Codes are learned: for the outputs if there is `compensation`, else by singular directions. */
  readonly learned?: Learned;
  /** Its part for the GPU, if the run has one. */
  readonly onGpu?: OnGpu;
  readonly codesOffsetBytes: number;
  readonly scalesOffsetBytes: number;
  /** Absent: the whole weight. */
  readonly expert?: ExpertOf;
}

/** The grid of a format that is no INT8, in a task. */
export interface TaskLevels {
  readonly scheme: LevelScheme;
  /** One byte per group, row-major; null: the format has one set for all. */
  readonly choicesOffsetBytes: number | null;
}

/** Floats of few bits, in a task. */
export interface TaskFloats {
  readonly scheme: FloatScheme;
  /** Rows of the codes, those of the padding included. */
  readonly paddedRows: number;
  /** Where the scale of the whole weight goes that stands beside those of groups; null: there is none. */
  readonly wholeScaleOffsetBytes: number | null;
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
  /** Whether the layer is the one of its kind of which more is checked. Absent: no. */
  readonly isFirst?: boolean;
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

/** Inputs in memory at a time if outputs are measured. */
export const MEASURED_AT_A_TIME = 128;

/** Errors of a layer's outputs: of what is stored against its source, for given inputs. */
export interface MeasureTask {
  readonly kind: "measure";
  readonly name: string;
  readonly reference: MatrixSource;
  readonly stored: MatrixSource;
  /** Biases of the layer, if they differ; null: they do not. */
  readonly bias: { readonly reference: MatrixSource; readonly stored: MatrixSource } | null;
  readonly inputs: LayerInputs;
  /** Products are made on the GPU, if the run has one. */
  readonly onGpu?: Pick<OnGpu, "chunkElements" | "isFirst">;
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

/** Places of what is written of the inputs of a layer. */
export interface RecordedInputs {
  /** BF16, one row for each token that is kept. */
  readonly rowsOffsetBytes: number;
  /** The largest magnitude of each channel over all tokens, F32. */
  readonly maxOffsetBytes: number;
  /** The mean of each channel, F32. */
  readonly meanOffsetBytes: number;
}

/** Texts are run through a text encoder, and inputs of its linear layers are written. */
export interface EncodeTask {
  readonly kind: "encode";
  readonly name: string;
  readonly graph: EncoderGraph;
  /** Every tensor that the graph names. */
  readonly tensors: Readonly<Record<string, MatrixSource>>;
  /** The tokens of all texts. */
  readonly tokens: Int32Array;
  /** Tokens of each text. */
  readonly lengths: readonly number[];
  /** Which tokens' inputs are written, ascending. */
  readonly kept: Int32Array;
  /** By the names of weights. */
  readonly layers: Readonly<Record<string, RecordedInputs>>;
}

/** Work on one tensor, or on a whole model. */
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
  | InputScaleTask
  | EncodeTask;

/** Whether all workers prepare the task together before they take its chunks. */
export function isTeamTask(task: Task): task is TeamTask {
  return task.kind === "encode" || isTeamLayer(task);
}

/** Whether all workers quantize the layer together. */
function isTeamLayer(task: Task): task is TeamLayer {
  return task.kind === "quantize" && (task.compensation !== null || task.transform !== undefined);
}

/** A layer that takes all workers: errors are compensated, or codes are those of the transformed weight. */
export type TeamLayer =
  & QuantizeTask
  & ({ readonly compensation: Compensation } | { readonly transform: Transform });

/** What takes all workers. */
export type TeamTask = TeamLayer | EncodeTask;

/** Bytes of one element of `dtype`; float dtypes and I8 are never below one byte. */
export function elementBytes(dtype: DType): number {
  return DTYPE_BITS[dtype] / 8;
}
