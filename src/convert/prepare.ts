/** Everything before the first value is read: open, recognise, refuse, decide, plan. */

import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import { mergedShape } from "../lora/key_map.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import { likeRule } from "../presets/like.ts";
import type { Detection, LayerRule } from "../presets/preset.ts";
import { refusalOf } from "../presets/registry.ts";
import { layerRule } from "../presets/rule.ts";
import {
  rawModule,
  type Unusable,
  unusableFile,
  unusableFiles,
  unusablePart,
} from "../presets/unusable.ts";
import { type InputPath, nameOfInput } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { openModel } from "../safetensors/reader.ts";
import {
  type Calibration,
  type LayerStatistic,
  noStatistic,
  openCalibration,
} from "../calibration/calibration.ts";
import {
  calibratedExperts,
  matchCalibration,
  unusedCalibration,
} from "../calibration/calibration_match.ts";
import { compensationBy, fittedPart } from "../calibration/compensation.ts";
import { knownExperts, nameExperts, statisticsName } from "../calibration/expert_statistics.ts";
import { type InputsOptions, scaleInput } from "../calibration/layer_inputs.ts";
import { idleOverrides } from "../plan/idle_overrides.ts";
import { idleInModel } from "./idle_in_model.ts";
import { bankNotes } from "../plan/bank_notes.ts";
import { familyBanks } from "../presets/banks.ts";
import { openLoraMerge } from "../plan/lora_merge.ts";
import { type LoraSteering, openLoraSteering } from "../calibration/lora_steering.ts";
import { type CompensationOf, floatMatrix } from "../run/make_tasks.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { makePlan, type Plan, type PlanInput } from "../plan/plan.ts";
import { storedMatrix } from "../formats/stored_matrix.ts";
import { likeReference, readQuantizedSource } from "./quantized_source.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";

/** A model with its plan. */
export interface Prepared {
  readonly model: ModelSource;
  readonly plan: Plan;
  /** How the values of a tensor are read. */
  matrixOf(source: SourceTensor): MatrixSource;
  /** The statistic by which errors of a layer are compensated; null if there is none; null if there is nothing. */
  compensationOf: CompensationOf;
  /** Names of the banks whose experts have calibration data of their own. */
  readonly byExpert: ReadonlySet<string>;
  /** Known inputs of the layers; null: nothing was given. */
  readonly calibration: Calibration | null;
  /** Place of its files among those of the run, and the split of its rows. */
  readonly inputsOptions: InputsOptions;
  /** Bytes of tensors that are written instead of what the plan says of them, by name. */
  readonly replaced: ReadonlyMap<string, Uint8Array>;
  /** Reports of the LoRAs, in the order they are merged. */
  readonly loras: readonly LoraReport[];
  /** The files a run reads: those of the model, then those of the calibration. */
  readonly inputPaths: readonly InputPath[];
  /** The plan once more, with tensors kept for the values they hold. */
  replan(keepNonFinite: ReadonlySet<string>): Plan;
  /** Throws FormatError if a layer of a quantized source has scales of zero, NaN and the like. */
  readonly refuseOddScales: () => void;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Opens `source` and plans its conversion. Milliseconds: only headers are read.
 *
 * @param dryRun plans what a real run would refuse for its layout, and says so in the notes.
 * @throws FormatError, UnsupportedError, UsageError; Error for missing files.
 */
export function prepare(
  source: string | ModelSource,
  options: ConvertOptions,
  { dryRun = false }: { dryRun?: boolean } = {},
): Prepared {
  const { model, layers, requantized, dropped, notes: told, refuseOddScales } = readQuantizedSource(
    openModel(source),
    options,
  );
  const logical = model.tensors
    .filter(({ name }) => !requantized?.parts.has(name))
    .map((tensor) => requantized?.weights.get(tensor.name) ?? tensor);
  const detection = detect(logical);
  const notes: string[] = [
    ...told,
    ...options.layers?.flags.notes ?? [],
    ...idleOverrides(options),
  ];
  const refusal = refusalFor(model, detection, options);
  if (refusal !== null) {
    if (!dryRun) {
      throw new UnsupportedError(`Cannot convert ${JSON.stringify(model.path)}: ${refusal}`);
    }
    notes.push(`a real run would be refused: ${refusal}`);
  }
  const { rule, missing, notes: likeNotes = [] } = ruleFor(detection, options, logical);
  notes.push(...likeNotes);
  for (const layer of missing) {
    notes.push(`the --like file quantizes "${layer}", which is not here`);
  }
  const merge = options.merge === null ? null : openLoraMerge(logical, options.merge);
  notes.push(...merge?.notes ?? []);
  const calibration = calibrationOf(options, logical);
  if (calibration !== null) notes.push(...matchCalibration(calibration, logical));
  const statistics = calibration === null || calibration.isSynthetic
    ? new Map<string, LayerStatistic>()
    : calibration.layers;
  if (calibration?.isSynthetic === true) {
    notes.push(
      `${calibration.path} is synthetic: errors are not compensated by it, and biases not corrected`,
    );
  }
  const weightNames = model.tensors.map(({ name }) => name);
  const steering = steeringOf(logical, options);
  notes.push(...steering?.notes ?? []);
  const byExpert = new Set(
    logical.filter(({ name, shape }) =>
      shape.length === 3 && knownExperts(statistics, layerName(name), shape[0]!).length > 0
    ).map(({ name }) => name),
  );
  const input: PlanInput = {
    model,
    staticScales: staticScalesOf(options, calibration, weightNames, notes),
    calibrated: new Set(
      weightNames.filter((name) =>
        statistics.has(layerName(name)) || byExpert.has(name) || steering?.names.has(name)
      ),
    ),
    detection,
    rule,
    options,
    dropped,
    ...(requantized === undefined ? {} : { requantized }),
    ...(merge === null ? {} : { merged: merge.names }),
  };
  const plan = makePlan(input);
  notes.push(...widenedNotes(plan, input.merged));
  const copy = copyOf(plan, options, unusableFile(logical, detection));
  if (copy !== null) {
    if (!dryRun) {
      throw new UnsupportedError(`Cannot convert ${JSON.stringify(model.path)}: ${copy}`);
    }
    notes.push(`a real run would be refused: ${copy}`);
  }
  notes.push(...idleInModel(plan, options));
  notes.push(...fp8Notes(plan));
  notes.push(...bankNotes(plan));
  notes.push(...unusableNotes(model, logical, plan));
  if (calibration !== null) notes.push(...unusedCalibration(calibration, plan));
  notes.push(...calibratedExperts(statistics, plan));
  return {
    model,
    plan,
    matrixOf: (source) => {
      const layer = layers.get(source.name);
      const matrix = layer === undefined ? floatMatrix(source) : storedMatrix(model, source, layer);
      if (merge === null || !merge.names.has(source.name)) return matrix;
      // Changes are rows of a matrix, also those of convolutions and biases.
      const [rows, cols] = mergedShape(source);
      return { ...matrix, rows, cols, deltas: merge.deltasOf(source.name) };
    },
    byExpert,
    compensationOf: (source, expert) => {
      const directions = steering?.directionsOf(source.name) ?? null;
      const name = statisticsName(statistics, layerName(source.name), expert);
      const statistic = statistics.get(name) ??
        (directions === null ? undefined : noStatistic(source.shape.at(-1) ?? 1));
      if (statistic === undefined) return null;
      const data = statistic.data.kind === "file"
        ? { ...statistic.data, file: statistic.data.file + model.paths.length }
        : statistic.data;
      const { rows, heldOut } = fittedPart(statistic, options.calibrationHoldout);
      return compensationBy({ ...statistic, rows, data }, options, directions, heldOut);
    },
    calibration,
    refuseOddScales,
    replaced: new Map(),
    inputsOptions: { fileOffset: model.paths.length, holdout: options.calibrationHoldout },
    loras: merge?.reports ?? [],
    inputPaths: [...model.paths, ...(calibration?.paths ?? [])],
    replan: (keepNonFinite) => makePlan({ ...input, keepNonFinite }),
    notes,
  };
}

/** Why the output would be the input once more; null if it is not, or was asked for. */
function copyOf(
  { totals }: Plan,
  { merge, allowCopy }: ConvertOptions,
  unusable: Unusable | null,
): string | null {
  if (totals.quantize > 0 || totals.cast > 0 || merge !== null || allowCopy) return null;
  if (unusable !== null) {
    return `nothing in it would be quantized: ${unusable.what}; use it as it is`;
  }
  return "nothing in it would be quantized: `--dry-run` gives the reason for each tensor, " +
    "`--allow-copy` writes the copy";
}

/** Says what FP8 weights of the source mean for the output. */
function fp8Notes({ tensors }: Plan): string[] {
  const quantized = tensors.filter(({ action }) => action === "quantize");
  const fp8 = quantized.filter(({ source }) => source.dtype.startsWith("F8_"));
  if (fp8.length === 0) return [];
  const which = fp8.length === quantized.length
    ? "the weights of the source are FP8"
    : `${fp8.length} of ${quantized.length} weights of the source are FP8`;
  return [
    `${which}, which takes 8 bits already: INT8 does not make them smaller, and the loss of FP8 stays; ` +
    "convert the BF16 or F16 original if you have it",
  ];
}

/**
 * Opens the calibration data of `options`, by which errors are compensated, biases corrected and outputs
 * measured; null if there is none.
 *
 * @param tensors of the model: experts of its banks have one name in the result.
 */
export function calibrationOf(
  { calibrationPath, output }: ConvertOptions,
  tensors: readonly TensorInfo[],
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
      : "input_scale is written; stock ComfyUI does not read it for INT8 and quantizes activations " +
        "at run time",
  );
  return new Set(names);
}

/** The LoRA whose directions the method is steered by. */
function steeringOf(logical: readonly TensorInfo[], options: ConvertOptions): LoraSteering | null {
  const { calibrationLora: path, method, output } = options;
  if (path === null || method === "simple" || output === "fp16") return null;
  return openLoraSteering(logical, path);
}

function layerName(weightName: string): string {
  return weightName.replace(/\.weight$/, "");
}

/** Why converting this file would not give a file that works; null if nothing speaks against it. */
function refusalFor(
  model: ModelSource,
  detection: Detection,
  options: ConvertOptions,
): string | null {
  const { preset } = options;
  const refused = refusalOf(detection, preset);
  if (refused !== null) return refused;
  const loraAsked = options.lora || (preset.kind === "documented" && preset.names.includes("lora"));
  if (detection.layout === "lora" && !loraAsked) {
    return `it is a LoRA (${
      detection.evidence[0] ?? "by its names"
    }); \`--lora\` quantizes the LoRA itself`;
  }
  if (detection.layout === "diffusers" && preset.kind === "auto") {
    return "it has the diffusers layout, whose quantized form stock ComfyUI does not load; use the " +
      "single-file checkpoint of the model, or `--preset none` to convert it all the same";
  }
  if (model.tensors.length === 0) return "it holds no tensors";
  return null;
}

/** The kept F8 tensors that a merge makes BF16. */
function widenedNotes({ tensors }: Plan, merged: ReadonlySet<string> = new Set()): string[] {
  const widened = tensors.filter(({ source, action }) =>
    action === "cast" && source.dtype.startsWith("F8") && merged.has(source.name)
  );
  if (widened.length === 0) return [];
  const more = widened.length === 1 ? "" : ` and ${widened.length - 1} more`;
  return [
    `LoRAs are merged into kept F8 tensors, which become BF16: ${widened[0]!.source.name}${more}`,
  ];
}

/** Problems that stock ComfyUI has with the result, by the list that `verify` uses. */
function unusableNotes(model: ModelSource, tensors: readonly TensorInfo[], plan: Plan): string[] {
  const shard = unusableFiles(model.paths.map(nameOfInput));
  const found = shard?.rule === "lone-shard" ? [shard] : [];
  const sharded = unusableFiles(plan.parts.map(() => ""));
  if (sharded !== null) found.push(sharded);
  const quantized = plan.tensors.filter(({ action }) => action === "quantize");
  if (quantized.length > 0) {
    const parts = quantized.map(({ source }) => rawModule(source) ?? unusablePart(source.name));
    const whole = unusableFile(tensors, plan.detection);
    for (const one of whole === null ? parts : [whole]) {
      if (one !== null && !found.includes(one)) found.push(one);
    }
  }
  return found.map(({ what, effect, hint }) =>
    `stock ComfyUI cannot use the result: ${what} (${effect})${
      hint === undefined ? "" : `; ${hint}`
    }`
  );
}

function ruleFor(
  detection: Detection,
  options: ConvertOptions,
  tensors: readonly TensorInfo[],
): { rule: LayerRule; missing: readonly string[]; notes?: readonly string[] } {
  const { preset, excludeLayers, tier, lora } = options;
  if (preset.kind === "like") {
    const { layers, notes } = likeReference(preset.path);
    return {
      ...likeRule(layers, tensors, { excludeLayers, isBank: familyBanks(detection, preset) }),
      notes,
    };
  }
  return { rule: layerRule({ tier, detection, preset, excludeLayers, lora }), missing: [] };
}
