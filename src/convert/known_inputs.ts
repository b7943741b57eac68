/** What is known of the inputs of the layers: calibration data, static scales, and a LoRA that steers. */

import { layerName } from "../core/layer_name.ts";
import type { Tensors } from "../core/tensor.ts";
import {
  type Calibration,
  type LayerStatistic,
  noStatistic,
  openCalibration,
  type StatisticData,
} from "../calibration/calibration.ts";
import {
  calibratedExperts,
  matchCalibration,
  unusedCalibration,
} from "../calibration/calibration_match.ts";
import { compensationBy, fittedPart } from "../calibration/compensation.ts";
import { knownExperts, nameExperts, statisticsName } from "../calibration/expert_statistics.ts";
import { dataSample } from "../calibration/data_sample.ts";
import { scaleInput } from "../calibration/layer_inputs.ts";
import { type LoraSteering, openLoraSteering } from "../calibration/lora_steering.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Plan, PlanInput } from "../plan/plan.ts";
import type { CompensationOf } from "../run/make_tasks.ts";
import type { InputPath } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";

/** Known inputs of the layers of a model. */
export interface KnownInputs {
  /** Null: no calibration data was given. */
  readonly calibration: Calibration | null;
  /** Names of the weights whose inputs have a static scale. */
  readonly staticScales: ReadonlySet<string>;
  /** Names of the weights whose errors can be compensated. */
  readonly calibrated: NonNullable<PlanInput["calibrated"]>;
  /** Names of the banks whose experts have calibration data of their own. */
  readonly byExpert: ReadonlySet<string>;
  /** The statistic by which errors of a layer are compensated; null if there is none. */
  readonly compensationOf: CompensationOf;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
  /** The same of a plan: data that it has no use for, and experts without any. */
  notesOf(plan: Plan): string[];
}

/**
 * Opens what `options` name: only headers are read.
 *
 * @param model as it is read, `logical` its tensors as the weights that they stand for.
 * @throws FormatError, UnsupportedError, UsageError; Error for missing files.
 */
export function knownInputs(
  model: ModelSource,
  logical: Tensors,
  options: ConvertOptions,
): KnownInputs {
  const notes: string[] = [];
  const calibration = calibrationOf(options, logical);
  if (calibration !== null) notes.push(...matchCalibration(calibration, logical));
  if (calibration?.isSynthetic === true) {
    notes.push(
      `${calibration.path} is synthetic: errors are not compensated by it, and biases not corrected`,
    );
  }
  const statistics = calibration === null || calibration.isSynthetic
    ? new Map<string, LayerStatistic>()
    : calibration.layers;
  const steering = steeringOf(logical, options);
  notes.push(...steering?.notes ?? []);
  const byExpert = new Set(
    logical.filter(({ name, shape }) =>
      shape.length === 3 && knownExperts(statistics, layerName(name), shape[0]!).length > 0
    ).map(({ name }) => name),
  );
  const weightNames = model.tensors.map(({ name }) => name);
  const staticScales = staticScalesOf(options, calibration, weightNames, notes);
  const isKnown = (name: string) =>
    statistics.has(layerName(name)) || byExpert.has(name) || steering?.names.has(name) === true;
  return {
    calibration,
    staticScales,
    calibrated: new Set(weightNames.filter(isKnown)),
    byExpert,
    compensationOf: compensationIn(statistics, steering, {
      options,
      firstFile: model.paths.length,
      paths: calibration?.paths ?? [],
    }),
    notes,
    notesOf: (plan) => [
      ...(calibration === null ? [] : unusedCalibration(calibration, plan)),
      ...calibratedExperts(statistics, plan),
    ],
  };
}

/**
 * Returns the way to the statistic of a layer.
 *
 * @param firstFile place of the first calibration file among those that a run reads. @param paths of these files.
 */
function compensationIn(
  statistics: ReadonlyMap<string, LayerStatistic>,
  steering: LoraSteering | null,
  { options, firstFile, paths }: {
    readonly options: ConvertOptions;
    readonly firstFile: number;
    readonly paths: readonly InputPath[];
  },
): CompensationOf {
  const samples = new Map<LayerStatistic, number | null>();
  const sampleOf = (statistic: LayerStatistic): number | null => {
    const sample = samples.get(statistic) ?? dataSample(statistic, paths);
    samples.set(statistic, sample);
    return sample;
  };
  return (source, expert) => {
    const directions = steering?.directionsOf(source.name) ?? null;
    const name = statisticsName(statistics, layerName(source.name), expert);
    const statistic = statistics.get(name) ??
      (directions === null ? undefined : noStatistic(source.shape.at(-1) ?? 1));
    if (statistic === undefined) return null;
    const placed = (data: StatisticData) =>
      data.kind === "file" ? { ...data, file: data.file + firstFile } : data;
    const { rows, heldOut } = fittedPart(statistic, options.calibrationHoldout);
    const judge = heldOut?.data === undefined
      ? heldOut
      : { ...heldOut, data: placed(heldOut.data) };
    const { judgedBy: _, ...own } = statistic;
    const data = placed(own.data);
    const sample = sampleOf(statistic);
    return compensationBy({ ...own, rows, data }, options, directions, judge, sample);
  };
}

/**
 * Opens the calibration data of `options`, by which errors are compensated, biases corrected and outputs
 * measured; null if there is none.
 *
 * @param tensors of the model: experts of its banks have one name in the result.
 */
export function calibrationOf(
  { calibrationPath, output }: Pick<ConvertOptions, "calibrationPath" | "output">,
  tensors: Tensors,
): Calibration | null {
  if (calibrationPath === null || output === "fp16") return null;
  return nameExperts(openCalibration(calibrationPath), tensors);
}

/** The weights whose inputs have a static scale, and a note if some or all have none. */
function staticScalesOf(
  { staticActivations, output }: ConvertOptions,
  calibration: Calibration | null,
  weightNames: readonly string[],
  notes: string[],
): ReadonlySet<string> {
  if (!staticActivations || output === "fp16") return new Set();
  if (calibration === null) {
    notes.push(
      "--static-activations needs --calibration-data with input_scale or activations: activations " +
        "stay quantized at run time",
    );
    return new Set();
  }
  const at = { fileOffset: 0, holdout: 0 };
  const names = weightNames.filter((name) =>
    /(^|\.)weight$/.test(name) && scaleInput(calibration, layerName(name), at) !== null
  );
  notes.push(
    names.length === 0
      ? "the calibration data has no input_scale and no activations: --static-activations writes " +
        "nothing, activations stay quantized at run time"
      : `input_scale is written${output === "int8" ? "" : " beside layers of INT8 only"}; stock ` +
        "ComfyUI does not read it for INT8 and quantizes activations at run time",
  );
  return new Set(names);
}

/** The LoRA whose directions the method is steered by. */
function steeringOf(logical: Tensors, options: ConvertOptions): LoraSteering | null {
  const { calibrationLora: path, method, output } = options;
  if (path === null || method === "simple" || output === "fp16") return null;
  return openLoraSteering(logical, path);
}
