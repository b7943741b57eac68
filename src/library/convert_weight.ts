/**
 * Quantizes one weight for a program, with the decisions and by the code of a conversion: the same codes and
 * scales as in the file that the command line writes of it.
 */

import * as v from "valibot";
import type { Grid } from "../backend/backend.ts";
import { UsageError } from "../core/errors.ts";
import type { SourceTensor, Tensor } from "../core/tensor.ts";
import { decodeFloats } from "../lora/decode_floats.ts";
import { checkOptions } from "../plan/option_schema.ts";
import { randomSigns } from "../quant/incoherence.ts";
import type { CodeSpace } from "../quant/int8_ops.ts";
import type { LearnedReport } from "../quant/learned/report.ts";
import type { Scheme } from "../quant/scheme.ts";
import { bytesOf } from "../core/bytes.ts";
import { workersWithin } from "../run/budget.ts";
import type { LayerStatistic, Statistic } from "../calibration/calibration.ts";
import { type Compensation, compensationBy, fittedPart } from "../calibration/compensation.ts";
import type { LayerErrors } from "../run/layer_statistics.ts";
import type { CompensatedRows } from "../run/layer_notes.ts";
import { makeTasks } from "../run/make_tasks.ts";
import { floatMatrix } from "../formats/float_matrix.ts";
import { groupShape, resolveMode, scaleShape, schemeFor } from "../plan/scheme_choice.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { QuantizeTask } from "../run/tasks.ts";
import type { MatrixSource, SourceTransform } from "../formats/matrix_source.ts";
import { arenaBytesFor, teamBytesFor } from "../run/workers/run_bytes.ts";
import { decodeInMemory, type Files, quantizeInMemory } from "./run_in_memory.ts";

/** A weight `[rows, cols]`, row-major, finite. */
export interface WeightMatrix {
  /** Values, f32, row-major. */
  readonly data: Float32Array;
  /** Rows of the matrix: outputs of the layer. */
  readonly rows: number;
  /** Columns of the matrix: inputs of the layer. */
  readonly cols: number;
  /** For messages; random numbers come from the seed and this. Default: empty. */
  readonly name?: string;
}

/** Known inputs of a layer, as numbers or as a loader's tensor. At most one of them is given: the best there is. */
export interface LayerInputData {
  /** Inputs, f32 `[T, cols]`, one per row. */
  readonly activations?: Float32Array | Tensor | null;
  /** Second moments of the inputs, `[cols, cols]`, up to a factor. */
  readonly hessian?: Float32Array | Float64Array | Tensor | null;
  /** Largest magnitude, or mean magnitude, of each input channel, `[cols]`. */
  readonly channelMax?: Float32Array | Tensor | null;
}

/** A quantized weight. */
export interface ConvertedWeight {
  /** i8 `[rows, cols]`; of a weight that is stored transformed, its padded size. */
  readonly codes: Int8Array;
  /** f32, one per group, row-major. */
  readonly scale: Float32Array;
  /** The same under the name that `quipInt8Matmul`, `int8Addmm` and `QuantizedTensor` take. */
  readonly scales: Float32Array;
  /** Shape of the scales as a file has them. */
  readonly scaleShape: readonly number[];
  /** Which codes share a scale. */
  readonly grid: Grid;
  /** The space that the codes are in: what `quipInt8Matmul` has to know. */
  readonly space: CodeSpace;
  /** Dequantized values, f32 `[rows, cols]` in original space. */
  readonly dequantized: Float32Array;
  /** Errors of `dequantized` against the weight. */
  readonly errors: LayerErrors;
  /** Note of the method: damping, or why it fell back; null for rounding to nearest. */
  readonly note: string | null;
  /** Number of rows that it did not help; null if no errors were compensated. */
  readonly compensated: CompensatedRows | null;
}

/**
 * Quantizes `weight`.
 *
 * @param options as `resolveOptions` returns them.
 * @throws UsageError if options contradict one another, or the weight cannot take the scaling;
 * RangeError if sizes do not fit, or values are not finite; FormatError if the inputs are no
 * statistics; UnsupportedError if the layer takes more memory than there can be.
 */
export function convertWeight(
  given: WeightMatrix | Tensor,
  givenInputs: LayerInputData,
  options: ConvertOptions,
): ConvertedWeight & { readonly learned: LearnedReport | null } {
  const weight = matrixOf(given), inputs = inputsOf(givenInputs);
  const { data, rows, cols, name = "" } = weight;
  checkSize(weight);
  const statistic = statisticOf(inputs, weight);
  const scheme = schemeOf(weight, options, statistic !== null);
  const size = scheme.transform ?? { rows, cols };
  const scalesAt = Math.ceil(size.rows * size.cols / 4) * 4;
  const grid: Grid = { rows: size.rows, cols: size.cols, ...groupShape(scheme, size) };
  const groups = (grid.rows / grid.groupRows) * (grid.cols / grid.groupCols);
  const source: SourceTensor = {
    name,
    dtype: "F32",
    shape: [rows, cols],
    file: 0,
    offsetBytes: 0,
    byteLength: data.byteLength,
  };
  const compensation = statistic === null ? null : fittedTo(statistic.statistic, options);
  const task = taskOf(source, scheme, { scalesAt, compensation });
  refuseTooLarge(task);
  const files = [bytesOf(data), ...statistic?.files ?? []];
  const outputBytes = scalesAt + 4 * groups;
  const done = quantizeInMemory(task, { files, outputBytes });
  const { output, errors, note, compensated, learned } = done;
  const signs = signsOf(scheme, options, name);
  const stored: MatrixSource = {
    ...floatMatrix(source),
    dtype: "I8",
    scale: {
      file: 0,
      offsetBytes: scalesAt,
      dtype: "F32",
      groupRows: grid.groupRows,
      groupCols: grid.groupCols,
    },
    convrotGroupSize: scheme.convrotGroupSize,
    ...(signs === null ? {} : { transform: signs.place }),
  };
  const scale = new Float32Array(output.buffer, scalesAt, groups);
  return {
    codes: new Int8Array(output.buffer, 0, size.rows * size.cols),
    scale,
    scales: scale,
    scaleShape: scaleShape(scheme, { ...size, normalizeScales: true }),
    grid,
    space: spaceOf(scheme, signs, { rows, cols }),
    dequantized: decodeInMemory(stored, [output, ...signs?.files ?? []]),
    errors,
    note,
    compensated,
    learned,
  };
}

function checkSize({ data, rows, cols }: WeightMatrix): void {
  if (data.length === rows * cols && data.length > 0) return;
  throw new RangeError(
    `Cannot quantize weight: ${data.length} values are not [${rows}, ${cols}] of one or more`,
  );
}

/** The task of a conversion for one weight: codes first in its output, then scales. */
function taskOf(
  source: SourceTensor,
  scheme: Scheme,
  { scalesAt, compensation }: { scalesAt: number; compensation: Compensation | null },
): QuantizeTask {
  const place = { name: source.name, dtype: "I8", shape: [], byteLength: 0 } as const;
  const { tasks: [task] } = makeTasks(
    {
      outputs: [
        { ...place, offsetBytes: 0, content: { kind: "codes", source, scheme } },
        { ...place, offsetBytes: scalesAt, content: { kind: "scales", source } },
      ],
    },
    floatMatrix,
    () => compensation,
  );
  if (task?.kind !== "quantize") throw new TypeError("Cannot quantize weight: no task was made");
  return task;
}

function spaceOf(
  { convrotGroupSize }: Scheme,
  signs: ReturnType<typeof signsOf>,
  { rows, cols }: { rows: number; cols: number },
): CodeSpace {
  if (signs !== null) {
    return { kind: "sylvester", rows, cols, signRow: signs.signRow, signCol: signs.signCol };
  }
  return convrotGroupSize === null
    ? { kind: "original" }
    : { kind: "convrot", groupSize: convrotGroupSize };
}

/** Returns a weight as it is computed with: a tensor of a loader is decoded. */
function matrixOf(weight: WeightMatrix | Tensor): WeightMatrix {
  if (!("dtype" in weight)) return weight;
  const { name, shape } = weight;
  if (shape.length !== 2) {
    throw new RangeError(
      `Cannot quantize ${JSON.stringify(name)}: its shape is [${
        shape.join(", ")
      }], needs two sizes`,
    );
  }
  return { data: decodeFloats(weight), rows: shape[0]!, cols: shape[1]!, name };
}

const anything = v.optional(v.unknown());

/** Returns inputs with tensors of a loader decoded. @throws UsageError for a name that is none of theirs. */
function inputsOf(inputs: LayerInputData): DecodedInputs {
  const entries = { activations: anything, hessian: anything, channelMax: anything };
  checkOptions(entries, inputs, { what: "the inputs of a layer" });
  const { activations, hessian, channelMax } = inputs;
  return {
    activations: floatsOf(activations),
    hessian: hessian instanceof Float64Array ? hessian : floatsOf(hessian),
    channelMax: floatsOf(channelMax),
  };
}

function floatsOf(values: Float32Array | Tensor | null | undefined): Float32Array | null {
  if (values === null || values === undefined) return null;
  return "dtype" in values ? decodeFloats(values) : values;
}

interface DecodedInputs {
  readonly activations: Float32Array | null;
  readonly hessian: Float32Array | Float64Array | null;
  readonly channelMax: Float32Array | null;
}

function schemeOf(
  { rows, cols }: WeightMatrix,
  options: ConvertOptions,
  calibrated: boolean,
): Scheme {
  const mode = resolveMode(options);
  // A rotation that is asked for must be possible, one that is found may be none.
  const heur = mode.convrot !== "auto";
  const { scheme, fellBack } = schemeFor(mode, { rows, cols, heur, calibrated });
  if (scheme === null) {
    throw new UsageError(
      `Cannot quantize weight: ${fellBack}; take a block size or rotation group that does`,
    );
  }
  return scheme;
}

/** Some rows are held out, as in a conversion. */
function fittedTo(statistic: LayerStatistic, options: ConvertOptions): Compensation {
  const { rows, heldOut } = fittedPart(statistic, options.calibrationHoldout);
  return compensationBy({ ...statistic, rows }, options, null, heldOut);
}

interface GivenStatistic {
  readonly statistic: LayerStatistic;
  /** The files that it is in, from number 1 on. */
  readonly files: Files;
}

function statisticOf(
  { activations, hessian, channelMax }: DecodedInputs,
  { cols, name = "" }: WeightMatrix,
): GivenStatistic | null {
  const given = ([
    ["activations", "activations", activations],
    ["hessian", "hessian", hessian],
    ["channelMax", "channels", channelMax],
  ] as const).filter(([, , values]) => values !== null);
  if (given.length > 1) {
    const names = given.map(([key]) => key).join(" and ");
    throw new UsageError(`Cannot compensate by ${names}: give the best of them only`);
  }
  const [key, statistic, values] = given[0] ?? [];
  if (key === undefined || statistic === undefined || !values) return null;
  const rows = values.length / cols;
  const wanted: Readonly<Record<Statistic, boolean>> = {
    activations: Number.isInteger(rows) && rows > 0,
    hessian: rows === cols,
    channels: rows === 1,
    lora: false,
  };
  if (!wanted[statistic]) {
    const shape = { activations: "rows of", hessian: `${cols} x`, channelMax: "one row of" }[key];
    throw new RangeError(
      `Cannot use ${key}: it has ${values.length} elements, needs ${shape} ${cols}`,
    );
  }
  const dtype = values instanceof Float64Array ? "F64" : "F32";
  const path = `${key} of ${name === "" ? "the weight" : name}`;
  const data = { kind: "file", file: 1, offsetBytes: 0, dtype, path } as const;
  return { statistic: { statistic, rows, cols, data }, files: [bytesOf(values)] };
}

/** The random signs of a weight that is stored transformed, as values and as files 1 and 2. */
function signsOf({ transform }: Scheme, { quip: { seed } }: ConvertOptions, name: string): {
  readonly signRow: Float32Array;
  readonly signCol: Float32Array;
  readonly place: SourceTransform;
  readonly files: Files;
} | null {
  if (transform === undefined) return null;
  const { rows, cols } = transform;
  const signRow = randomSigns(rows, { seed, name, side: "row" });
  const signCol = randomSigns(cols, { seed, name, side: "col" });
  const at = (file: number) => ({ file, offsetBytes: 0 });
  return {
    signRow,
    signCol,
    place: { rows, cols, signRow: at(1), signCol: at(2) },
    files: [bytesOf(signRow), bytesOf(signCol)],
  };
}

function refuseTooLarge(task: QuantizeTask): void {
  const needs = {
    arenaBytes: arenaBytesFor([task]),
    teamBytes: teamBytesFor([task]),
    tensorCount: 1,
  };
  workersWithin(needs, { wanted: 1, limitBytes: null });
}
