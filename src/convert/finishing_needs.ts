/** Needs of finishing a conversion, computed from its tasks before anything is written. */

import { layerName } from "../core/layer_name.ts";
import type { Calibration } from "../calibration/calibration.ts";
import { statisticsName } from "../calibration/expert_statistics.ts";
import { meanInput, measuringInputs } from "../calibration/layer_inputs.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Prepared } from "./prepare.ts";
import { tensorsByName } from "../formats/stored_matrix.ts";
import { inputBytesOf } from "../run/task_kinds.ts";
import type { MeasureTask, QuantizeTask, Task, TaskLevels } from "../run/tasks.ts";
import type { MatrixSource, PackedCodes } from "../formats/matrix_source.ts";
import { arenaBytesFor } from "../run/workers/run_bytes.ts";

/** Returns the bytes of memory that each worker's arena will take in `finishLayers`, at most. */
export function finishingArenaBytes(
  { calibration, inputsOptions }: Prepared,
  tasks: readonly Task[],
): number {
  if (calibration === null) return 0;
  const expected = tasks.flatMap((task): Task[] => {
    if (task.kind !== "quantize") return [];
    const found = measuringInputs(calibration, inputsNameOf(calibration, task), inputsOptions);
    return found === null ? [] : [{ ...expectedMeasure(task), inputs: found.inputs }];
  });
  return arenaBytesFor(expected);
}

/** Returns the bytes that `finishLayers` will read in its two steps: near enough for a progress bar. */
export function finishingBytes(
  { calibration, inputsOptions, model }: Prepared,
  tasks: readonly Task[],
  { biasCorrection, measure }: Pick<ConvertOptions, "biasCorrection"> & { measure: boolean },
): { biases: number; outputs: number } {
  const sums = { biases: 0, outputs: 0 };
  if (calibration === null) return sums;
  const tensors = tensorsByName(model);
  for (const task of tasks) {
    if (task.kind !== "quantize") continue;
    const layer = layerName(task.name), bytes = inputBytesOf(expectedMeasure(task));
    const inputsName = inputsNameOf(calibration, task);
    const isCorrected = biasCorrection && tensors.has(`${layer}.bias`) &&
      meanInput(calibration, inputsName, inputsOptions) !== null;
    if (isCorrected) sums.biases += bytes;
    if (measure && measuringInputs(calibration, inputsName, inputsOptions) !== null) {
      sums.outputs += bytes;
    }
  }
  return sums;
}

/** Name in the data of the inputs of the layer, or of the expert, of a task. */
function inputsNameOf({ fields }: Calibration, { name, expert }: QuantizeTask): string {
  return statisticsName(fields, layerName(name), expert?.index);
}

/** The measuring of a layer that is not there yet: sizes are those it will have, places are not. */
function expectedMeasure(task: QuantizeTask): MeasureTask {
  const { name, source, transform, convrotGroupSize, groupRows, groupCols } = task;
  const { rows, cols } = source, at = { file: 0, offsetBytes: 0 };
  const stored: MatrixSource = {
    ...at,
    name,
    dtype: "I8",
    rows,
    cols,
    ...(task.levels === undefined
      ? { scale: { ...at, dtype: "F32", groupRows, groupCols } }
      : { scale: null, packed: expectedPacked(task.levels, cols) }),
    convrotGroupSize,
    ...(transform === undefined ? {} : {
      transform: { rows: transform.rows, cols: transform.cols, signRow: at, signCol: at },
    }),
  };
  const vector: MatrixSource = {
    ...at,
    name,
    dtype: "F32",
    rows: 1,
    cols: rows,
    scale: null,
    convrotGroupSize: null,
  };
  const data = { kind: "inline", values: new Float32Array(), path: "" } as const;
  return {
    kind: "measure",
    name,
    reference: source,
    stored,
    bias: { reference: vector, stored: vector },
    inputs: { statistic: "activations", firstRow: 0, rowStep: 1, rows: 0, cols, data },
  };
}

/** Packed codes of the sizes that they will have. */
function expectedPacked({ scheme }: TaskLevels, cols: number): PackedCodes {
  const at = { file: 0, offsetBytes: 0 };
  const row = { ...at, dtype: "F32", groupRows: 1, groupCols: cols } as const;
  return {
    rowBytes: cols * scheme.bits / 8,
    fields: [{ firstByte: 0, bits: 4, highFirst: false }],
    levels: at,
    levelCount: 2 ** scheme.bits,
    scales: scheme.kind === "scaled"
      ? [{ ...row, dtype: "F8_E4M3", groupCols: scheme.groupCols, rounds: true }, row]
      : [row],
  };
}
