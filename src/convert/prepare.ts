/** Everything before the first value is read: open, recognise, refuse, decide, plan. */

import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import { mergedShape } from "../lora/key_map.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import { likeRule } from "../presets/like.ts";
import type { Detection, LayerRule } from "../presets/preset.ts";
import { layerRule } from "../presets/rule.ts";
import { unusableFile } from "../presets/unusable.ts";
import type { InputPath } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { openModel } from "../safetensors/reader.ts";
import type { Calibration } from "../calibration/calibration.ts";
import type { InputsOptions } from "../calibration/layer_inputs.ts";
import { idleOverrides } from "../plan/idle_overrides.ts";
import { idleInModel } from "./idle_in_model.ts";
import { bankNotes } from "../plan/bank_notes.ts";
import { familyBanks } from "../presets/banks.ts";
import { type LoraMerge, openLoraMerge } from "../plan/lora_merge.ts";
import type { CompensationOf } from "../run/make_tasks.ts";
import { floatMatrix } from "../formats/float_matrix.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { makePlan, type Plan, type PlanInput } from "../plan/plan.ts";
import { storedMatrix } from "../formats/stored_matrix.ts";
import { type KnownInputs, knownInputs } from "./known_inputs.ts";
import { copyOf, fp8Notes, refusalFor, unusableNotes, widenedNotes } from "./plan_notes.ts";
import { likeReference, type QuantizedSource, readQuantizedSource } from "./quantized_source.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";

/** A model with its plan. */
export interface Prepared {
  readonly model: ModelSource;
  readonly plan: Plan;
  /** How the values of a tensor are read. */
  matrixOf(source: SourceTensor): MatrixSource;
  /** The statistic by which errors of a layer are compensated; null if there is none; null if there is nothing. */
  compensationOf: CompensationOf;
  /** Names of the weights whose errors can be compensated. */
  readonly calibrated: ReadonlySet<string>;
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
  /** The same with tables of levels that were fitted to weights, by name. */
  withCodebooks(codebooks: ReadonlyMap<string, readonly number[]>): Prepared;
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
  const opened = openModel(source);
  // A plan keeps all of them.
  const kept: ModelSource = { ...opened, tensors: [...opened.tensors] };
  const read = readQuantizedSource(kept, options), { model, requantized } = read;
  const logical = logicalTensors(read);
  const detection = detect(logical);
  const notes = [...read.notes, ...options.layers?.flags.notes ?? [], ...idleOverrides(options)];
  const refuse = (why: string | null): void => {
    if (why === null) return;
    if (!dryRun) throw new UnsupportedError(`Cannot convert ${JSON.stringify(model.path)}: ${why}`);
    notes.push(`a real run would be refused: ${why}`);
  };
  refuse(refusalFor(model, detection, options));
  const { rule, notes: ruleNotes } = ruleFor(detection, options, logical);
  const merge = options.merge === null ? null : openLoraMerge(logical, options.merge);
  const inputs = knownInputs(model, logical, options), { calibration } = inputs;
  notes.push(...ruleNotes, ...merge?.notes ?? [], ...inputs.notes);
  const input: PlanInput = {
    model,
    staticScales: inputs.staticScales,
    calibrated: inputs.calibrated,
    detection,
    rule,
    options,
    dropped: read.dropped,
    ...(requantized === undefined ? {} : { requantized }),
    ...(merge === null ? {} : { merged: merge.names }),
  };
  const plan = makePlan(input);
  notes.push(...widenedNotes(plan, input.merged));
  refuse(copyOf(plan, options, unusableFile(logical, detection)));
  notes.push(...idleInModel(plan, options), ...planNotes(plan, { model, logical, inputs }));
  const prepared: Prepared = {
    model,
    plan,
    matrixOf: matrixReader(read, merge),
    calibrated: inputs.calibrated,
    byExpert: inputs.byExpert,
    compensationOf: inputs.compensationOf,
    calibration,
    refuseOddScales: read.refuseOddScales,
    replaced: new Map(),
    inputsOptions: { fileOffset: model.paths.length, holdout: options.calibrationHoldout },
    loras: merge?.reports ?? [],
    inputPaths: [...model.paths, ...(calibration?.paths ?? [])],
    replan: (keepNonFinite) => makePlan({ ...input, keepNonFinite }),
    withCodebooks: (codebooks) => ({
      ...prepared,
      plan: makePlan({ ...input, codebooks }),
      replan: (keepNonFinite) => makePlan({ ...input, codebooks, keepNonFinite }),
    }),
    notes,
  };
  return prepared;
}

/** What a user should know of the formats and the data of a plan, one sentence each. */
function planNotes(
  plan: Plan,
  { model, logical, inputs }: {
    readonly model: ModelSource;
    readonly logical: readonly TensorInfo[];
    readonly inputs: KnownInputs;
  },
): string[] {
  return [
    ...fp8Notes(plan),
    ...bankNotes(plan),
    ...unusableNotes(model, logical, plan),
    ...inputs.notesOf(plan),
  ];
}

/** The tensors of the model, quantized layers as the weights that they stand for. */
function logicalTensors({ model, requantized }: QuantizedSource): TensorInfo[] {
  return model.tensors
    .filter(({ name }) => !requantized?.parts.has(name))
    .map((tensor) => requantized?.weights.get(tensor.name) ?? tensor);
}

/** Returns how the values of each tensor are read. */
function matrixReader(
  { model, layers }: QuantizedSource,
  merge: LoraMerge | null,
): Prepared["matrixOf"] {
  return (source) => {
    const layer = layers.get(source.name);
    const matrix = layer === undefined ? floatMatrix(source) : storedMatrix(model, source, layer);
    if (merge === null || !merge.names.has(source.name)) return matrix;
    // Changes are rows of a matrix, also those of convolutions and biases.
    const [rows, cols] = mergedShape(source);
    return { ...matrix, rows, cols, deltas: merge.deltasOf(source.name) };
  };
}

/** Which layers are quantized, and what there is to say of the template that says so. */
function ruleFor(
  detection: Detection,
  options: ConvertOptions,
  tensors: readonly TensorInfo[],
): { readonly rule: LayerRule; readonly notes: readonly string[] } {
  const { preset, excludeLayers, tier, lora } = options;
  if (preset.kind !== "like") {
    return { rule: layerRule({ tier, detection, preset, excludeLayers, lora }), notes: [] };
  }
  const { layers, notes } = likeReference(preset.path);
  const isBank = familyBanks(detection, preset);
  const { rule, missing } = likeRule(layers, tensors, { excludeLayers, isBank });
  const absent = missing.map((layer) => `the --like file quantizes "${layer}", which is not here`);
  return { rule, notes: [...notes, ...absent] };
}
