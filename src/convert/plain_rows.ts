/**
 * The errors that plain rows would have given, those of rounding to nearest with a scale per row, and what the
 * default without data would have given: a report sets them beside the errors of what was written. Measured
 * on a sample of the rows of every layer, as a second
 * conversion would be needed to measure all of them.
 */

import { bytesOf } from "../core/bytes.ts";
import { type CpuKernels, type Grid, STATS, STATS_LENGTH } from "../backend/backend.ts";
import type { OwnCheckKernels } from "../run/workers/check_kernels.ts";
import { ownKernels } from "../run/workers/own_kernels.ts";
import { convrotGroupFor } from "../quant/rotation_groups.ts";
import { calibrationOf } from "./known_inputs.ts";
import { layerName } from "../core/layer_name.ts";
import { type FloatDType, isFloatDType } from "../core/dtype.ts";
import { elementBytes } from "../run/tasks.ts";
import type { Calibration } from "../calibration/calibration.ts";
import { matchCalibration } from "../calibration/calibration_match.ts";
import { measuringInputs } from "../calibration/layer_inputs.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { InputFiles } from "../safetensors/input_files.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { LayerResult } from "./layer_result.ts";
import { type OutputSums, outputSums, type RawRows } from "./plain_outputs.ts";

/** Errors of plain rows, comparable with `overallErrors` and `overallOutput` of the same layers. */
export interface PlainRows {
  /** ‖W − Ŵ‖ / ‖W‖ over all layers. */
  readonly relativeError: number;
  /** The same in dB; null if there is no error. */
  readonly sqnrDb: number | null;
  /** Geometric mean of the output errors with int8 inputs; null if no inputs are known. */
  readonly w8a8: number | null;
  /** The same of the default without data: rotated rows with searched scales. */
  readonly defaultW8a8: number | null;
  /** Both for each layer that has them. */
  readonly byLayer: ReadonlyMap<string, PlainLayer>;
  /** How many rows of all layers were looked at. */
  readonly sampledRows: number;
  /** How many there are. */
  readonly rows: number;
}

/** Output errors of one layer, inputs rounded to int8. */
export interface PlainLayer {
  readonly w8a8: number;
  readonly defaultW8a8: number;
}

/** The options that decide on what is measured. */
export type PlainRowsOptions = Pick<
  ConvertOptions,
  "merge" | "smoothAlpha" | "calibrationPath" | "calibrationHoldout" | "output"
>;

/**
 * Elements of weights that are looked at, of all layers together: some 30 ms of arithmetic. They are 1,024 rows
 * of 4,096 weights, whose mean is known to 3 % of the spread of single rows.
 */
const SAMPLED_ELEMENTS = 2 ** 22;

/**
 * Places of a layer that rows are read at, at least one row at each. Rows of one place lie together, since a
 * row of its own costs a disk as much as a hundred: the queries, keys and values of a fused layer are seen all
 * the same.
 */
const PLACES = 4;

/** Most places of all layers together. */
const MOST_PLACES = Infinity;

/** Elements that are decoded at once. */
const STEP_ELEMENTS = 2 ** 16;

/** Inputs of a layer that outputs are measured with, at most. */
const MAX_INPUTS = 32;

/** Rows of weights that errors of outputs are computed of, at most. */
const MAX_OUTPUTS = 16;

/**
 * Returns the errors of plain rows for `layers`; null if they cannot be measured from the source alone: it
 * lies on a server, is quantized, or LoRAs or smoothing change its weights.
 *
 * @param sampling `sampledElements`: how many weights are looked at, of all layers together, at least four rows
 *   of each layer. Default: 2^22. `mostPlaces`: at how many places they are read at most, of all layers together,
 *   at least one of each layer. Default: four of each.
 * @throws RangeError if a file ends early.
 */
export function plainRows(
  model: ModelSource,
  layers: readonly Pick<LayerResult, "name" | "output">[],
  options: PlainRowsOptions,
  { sampledElements = SAMPLED_ELEMENTS, mostPlaces = MOST_PLACES }: {
    readonly sampledElements?: number;
    readonly mostPlaces?: number;
  } = {},
): PlainRows | null {
  if (layers.length === 0 || !keepsItsWeights(model, options)) return null;
  const tensors = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  const calibration = layers.some(({ output }) => output?.w8a8 != null)
    ? calibrationFor(model, options)
    : null;
  using files = new InputFiles(model.paths);
  using inputFiles = new InputFiles(calibration?.paths ?? []);
  const kernels = ownKernels({ needsLinalg: calibration !== null });
  let error = 0, signal = 0, sampledRows = 0, allRows = 0;
  const byLayer = new Map<string, PlainLayer>();
  const places = Math.max(1, Math.min(PLACES, Math.floor(mostPlaces / layers.length)));
  for (const [index, layer] of layers.entries()) {
    const tensor = tensors.get(layer.name);
    if (tensor === undefined || !isFloatDType(tensor.dtype)) return null;
    const cols = tensor.shape.at(-1)!, rows = tensor.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const budget = Math.floor(sampledElements / (layers.length * cols));
    const count = Math.min(rows, Math.max(PLACES, budget));
    const sampled: SampledLayer = { files, tensor, dtype: tensor.dtype, rows, cols };
    const sample = new RowSample(kernels, sampled);
    sample.addErrors(count, { places, turn: index });
    const squares = sample.stats[STATS.squaredSignal]! * (rows / count);
    error += sample.stats[STATS.squaredError]! * (rows / count);
    signal += squares;
    sampledRows += count;
    allRows += rows;
    const inputs = layer.output?.w8a8 == null || calibration === null
      ? null
      : inputsOf(calibration, layerName(layer.name), { files: inputFiles, options });
    if (inputs === null) continue;
    const weights = someRows(sampled, Math.min(count, MAX_OUTPUTS));
    const { signal: outputs, rows: inputRows } = layer.output!;
    const whole = { squares, signal: outputs / inputRows!, inputs: inputs.rows };
    const errorOf = (group: number | null, isSearched: boolean) =>
      relativeError(
        outputSums(kernels, { weights, inputs, cols }, { group, isSearched }),
        whole,
      );
    byLayer.set(layer.name, {
      w8a8: errorOf(null, false),
      defaultW8a8: errorOf(convrotGroupFor(cols, "auto"), true),
    });
  }
  const measured = layers.filter(({ output }) => output?.w8a8 != null).length;
  return {
    relativeError: error === 0 ? 0 : Math.sqrt(error / signal),
    sqnrDb: error === 0 ? null : 10 * Math.log10(signal / error),
    ...meansOf(byLayer, measured),
    ...{ byLayer, sampledRows, rows: allRows },
  };
}

/** Geometric means over `measured` layers; null if not all of them are there. */
function meansOf(
  byLayer: PlainRows["byLayer"],
  measured: number,
): Pick<PlainRows, "w8a8" | "defaultW8a8"> {
  const layers = [...byLayer.values()];
  if (layers.length === 0 || layers.length < measured) return { w8a8: null, defaultW8a8: null };
  return {
    w8a8: geometricMean(layers.map(({ w8a8 }) => w8a8)),
    defaultW8a8: geometricMean(layers.map(({ defaultW8a8 }) => defaultW8a8)),
  };
}

/** Whether the weights that are rounded are those of the source, and can be read here. */
function keepsItsWeights(
  { paths }: ModelSource,
  { merge, smoothAlpha }: PlainRowsOptions,
): boolean {
  return merge === null && smoothAlpha === null && paths.every((path) => typeof path === "string");
}

/**
 * Returns the relative error of the outputs of a layer whose weights have these squares, and whose outputs have
 * `signal` for each input. Errors of a row of weights are as large as its squares are, so that those of a few rows
 * stand for all. Outputs are not: one row may make most of them.
 */
function relativeError(
  sums: OutputSums,
  { squares, signal, inputs }: {
    readonly squares: number;
    readonly signal: number;
    readonly inputs: number;
  },
): number {
  if (sums.squares === 0) return 0;
  return Math.sqrt((sums.error / inputs) * (squares / sums.squares) / signal);
}

function calibrationFor(model: ModelSource, options: PlainRowsOptions): Calibration | null {
  const calibration = calibrationOf(options, model.tensors);
  if (calibration !== null) matchCalibration(calibration, model.tensors);
  return calibration;
}

/** Some of the inputs that the conversion measured the layer with. */
function inputsOf(
  calibration: Calibration,
  layer: string,
  { files, options: { calibrationHoldout } }: {
    readonly files: InputFiles;
    readonly options: PlainRowsOptions;
  },
): RawRows | null {
  const measuring = measuringInputs(calibration, layer, {
    fileOffset: 0,
    holdout: calibrationHoldout,
  });
  if (measuring === null || measuring.inputs.statistic !== "activations") return null;
  const { inputs } = measuring, { data, rows, cols, firstRow, rowStep } = inputs;
  const dtype = data.kind === "inline" ? "F32" : data.dtype, rowBytes = cols * elementBytes(dtype);
  return spreadRows({ dtype, cols, rows }, Math.min(rows, MAX_INPUTS), (to, index) => {
    const at = (firstRow + index * rowStep) * rowBytes;
    if (data.kind === "inline") to.set(bytesOf(data.values).subarray(at, at + rowBytes));
    else files.read(data.file, to, data.offsetBytes + at);
  });
}

/** `count` rows of a layer. */
function someRows(layer: SampledLayer, count: number): RawRows {
  const { files, tensor } = layer;
  return spreadRows(layer, count, (to, row) => {
    files.read(tensor.file, to, tensor.offsetBytes + row * to.length);
  });
}

/** `count` of some rows, spread over all; `read` puts one into `to`. */
function spreadRows(
  { dtype, rows, cols }: Pick<SampledLayer, "dtype" | "rows" | "cols">,
  count: number,
  read: (to: Uint8Array, row: number) => void,
): RawRows {
  const rowBytes = cols * elementBytes(dtype), bytes = new Uint8Array(count * rowBytes);
  for (let i = 0; i < count; i++) {
    read(bytes.subarray(i * rowBytes, (i + 1) * rowBytes), Math.floor((i * rows) / count));
  }
  return { bytes, dtype, rows: count };
}

/** A layer of floats and the files that it lies in. */
interface SampledLayer {
  readonly files: InputFiles;
  readonly tensor: SourceTensor;
  readonly dtype: FloatDType;
  readonly rows: number;
  readonly cols: number;
}

/** Some rows of a layer, rounded to nearest by the kernels, and the errors of all of them. */
class RowSample {
  readonly #kernels: CpuKernels;
  readonly #layer: SampledLayer;
  /** Rows at once. */
  readonly #step: number;
  readonly #raw: Uint8Array;
  readonly #x: Float32Array;
  readonly #codes: Int8Array;
  readonly #scales: Float32Array;
  /** Sums over all rows, see STATS. */
  readonly stats: Float64Array;

  /** Takes the memory of the layer before. */
  constructor(own: OwnCheckKernels, layer: SampledLayer) {
    const { dtype, cols } = layer;
    const step = Math.max(1, Math.floor(STEP_ELEMENTS / cols)), size = step * cols;
    const bytes = size * elementBytes(dtype);
    const memory = own.memory(bytes + 5 * size + 4 * step + 1024);
    this.#kernels = own.kernels;
    this.#layer = layer;
    this.#step = step;
    this.#raw = memory.u8(bytes);
    this.#x = memory.f32(size);
    this.#codes = memory.i8(size);
    this.#scales = memory.f32(step);
    this.stats = memory.f64(STATS_LENGTH).fill(0);
  }

  /** Adds the errors of `count` rows at `places` places. Those of fewer than {@link PLACES} differ by `turn`. */
  addErrors(
    count: number,
    { places, turn }: { readonly places: number; readonly turn: number },
  ): void {
    const { rows } = this.#layer;
    const span = Math.floor(rows / places), room = span - Math.ceil(count / places);
    const shift = places === PLACES
      ? 0
      : Math.max(0, Math.min(room, Math.floor(((turn % PLACES) * span) / PLACES)));
    for (let place = 0; place < places; place++) {
      const first = Math.floor((place * rows) / places) + shift;
      const from = Math.floor((place * count) / places);
      const end = first + Math.floor(((place + 1) * count) / places) - from;
      for (let row = first; row < end; row += this.#step) {
        this.#read(row, Math.min(this.#step, end - row));
        this.#addErrorsOf(Math.min(this.#step, end - row));
      }
    }
  }

  #read(row: number, count: number): void {
    const { files, tensor, dtype, cols } = this.#layer;
    const rowBytes = cols * elementBytes(dtype), bytes = this.#raw.subarray(0, count * rowBytes);
    files.read(tensor.file, bytes, tensor.offsetBytes + row * rowBytes);
  }

  #addErrorsOf(rows: number): void {
    const { dtype, cols } = this.#layer;
    const size = rows * cols, grid = { rows, cols, groupRows: 1, groupCols: cols };
    const x = this.#x.subarray(0, size), scales = this.#scales.subarray(0, rows);
    this.#kernels.decode(x, this.#raw.subarray(0, size * elementBytes(dtype)), dtype);
    this.#findScales(x, scales, grid);
    this.#kernels.quantizeErrors(this.#codes.subarray(0, size), x, this.stats, scales, grid);
  }

  #findScales(x: Float32Array, scales: Float32Array, grid: Grid): void {
    this.#kernels.absmax(scales, x, grid);
    this.#kernels.scaleFromAbsmax(scales, scales);
  }
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(
    values.reduce((sum, value) => sum + Math.log(Math.max(value, 1e-9)), 0) / values.length,
  );
}
