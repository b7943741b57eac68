/**
 * Per-layer control: what a layer config, `--custom-layers` and `--fallback` make of the decision that
 * preset and rule came to, and the options that the layer then has. Pure.
 */

import { writerOf } from "../formats/written_format.ts";
import type { LayerOverride } from "../config/layer_override.ts";
import { layerOverrides } from "../config/layer_overrides.ts";
import { isWeightName, layerName } from "../core/layer_name.ts";
import { UsageError } from "../core/errors.ts";
import type { TensorInfo, Tensors } from "../core/tensor.ts";
import { isExcluded } from "../presets/pattern.ts";
import { nonCandidateReason, structuralReason } from "../presets/candidates.ts";
import type { LayerDecision, LayerRecipe } from "../presets/preset.ts";
import { refuseContradictions } from "./contradictions.ts";
import { type Mode, resolveMode } from "./scheme_choice.ts";
import { LAYER_CONFIG_NAMES } from "./option_names.ts";
import { refuseUnmatched } from "./unmatched_patterns.ts";
import { isGridOutput } from "../formats/outputs.ts";
import { type ConvertOptions, methodByDefault } from "./options.ts";

/** How one layer is converted. */
export interface LayerSettings {
  readonly options: ConvertOptions;
  readonly mode: Mode;
}

/** Fate of one tensor, before its shape has a say. */
export interface DecidedLayer extends LayerSettings {
  readonly action: "quantize" | "cast" | "keep" | "remove";
  readonly reason: string;
  /** How the `--like` file has it; unset if an override says otherwise. */
  readonly recipe?: LayerRecipe | undefined;
  /** The dtype that it is kept in, if that is not its own. */
  readonly keptAs?: "BF16" | null;
}

/** Decides for one tensor, given what preset and rule decided. */
export type LayerControl = (tensor: TensorInfo, decision: LayerDecision) => DecidedLayer;

/**
 * Returns the control that `options` ask for.
 *
 * @param tensors the model's tensors; quantized ones as what they dequantize to.
 * @param isBank whether a tensor is an expert bank that the loader knows quantized.
 * @throws UsageError if a pattern matches no layer.
 * The control itself throws the same for a layer's settings.
 */
export function layerControl(
  tensors: Tensors,
  options: ConvertOptions,
  isBank: (tensor: TensorInfo) => boolean = () => false,
): LayerControl {
  const base: LayerSettings = { options, mode: resolveMode(options) };
  const sources = options.layers;
  const isNameable = (tensor: TensorInfo) => isLayer(tensor) || isBank(tensor);
  const layers = tensors.filter(isNameable).map(({ name }) => layerName(name));
  const { excludeLayers } = options;
  if (excludeLayers !== null && !tensors.some(({ name }) => isExcluded(excludeLayers, name))) {
    const pattern = { pattern: excludeLayers.source, place: "--exclude-layers" };
    refuseUnmatched([pattern], layers.length > 0 ? layers : tensors.map(({ name }) => name));
  }
  if (sources === null) return (_, decision) => fateOf(decision, base);
  const overrides = layerOverrides(layers, sources);
  refuseUnmatched(overrides.unused, layers);
  const known = new Map<LayerOverride, LayerSettings>();
  const settingsOf = (override: LayerOverride): LayerSettings => {
    const settings = known.get(override) ?? settingsWith(options, override);
    known.set(override, settings);
    return settings;
  };
  return (tensor, decision) => {
    if (decision.action === "remove" || !isNameable(tensor)) return fateOf(decision, base);
    const override = overrides.of(layerName(tensor.name), decision.action === "keep");
    if (override === null) return fateOf(decision, base);
    // `--fallback` is for what a keep-list names; embeddings and norms are kept unless a pattern asks.
    const barred = isBank(tensor) ? null : structuralReason(tensor, options);
    if (
      override === sources.flags.fallback && !isBank(tensor) &&
      nonCandidateReason(tensor, options) !== null
    ) {
      return fateOf(decision, base);
    }
    return overriddenFate(decision, { override, base, settingsOf, barred });
  };
}

/** Whether a config may name the tensor whatever its family: those that {@link layerConfigTemplate} lists. */
export function isLayer({ name, shape }: TensorInfo): boolean {
  return isWeightName(name) && shape.length === 2;
}

function fateOf(decision: LayerDecision, settings: LayerSettings): DecidedLayer {
  const { action, reason, recipe } = decision;
  const isCast = action === "quantize" && settings.options.output === "fp16";
  return { ...settings, action: isCast ? "cast" : action, reason, recipe };
}

function overriddenFate(
  decision: LayerDecision,
  { override, base, settingsOf, barred }: {
    override: LayerOverride;
    base: LayerSettings;
    settingsOf: (override: LayerOverride) => LayerSettings;
    /** Why the tensor cannot be quantized whatever is asked for; null: it can. */
    barred: string | null;
  },
): DecidedLayer {
  const { origin } = override;
  if (override.skip) {
    return { ...base, action: "keep", reason: origin, keptAs: override.keptAs };
  }
  if (override.output === null && decision.action === "keep") return fateOf(decision, base);
  if (barred !== null) {
    return { ...base, action: "keep", reason: `${barred}, whatever ${origin} says` };
  }
  const settings = settingsOf(override);
  const reason = override.output === null ? `${decision.reason}; ${origin}` : origin;
  if (settings.options.output === "fp16") return { ...settings, action: "cast", reason };
  const speaks = override.scaling !== null || override.convrot !== null ||
    override.blockSize !== null || override.linearDtype !== null;
  return { ...settings, action: "quantize", reason, recipe: speaks ? undefined : decision.recipe };
}

/** The options of a layer that `override` speaks of. */
function settingsWith(options: ConvertOptions, override: LayerOverride): LayerSettings {
  const { format, origin } = override;
  const isRotated = override.convrot !== null && override.convrot !== "off";
  const writer = format === null ? null : writerOf(format);
  if (isRotated && writer?.rotates === false) {
    throw new UsageError(`Cannot use ${origin}: format ${format} has no rotation (convrot)`);
  }
  const output = override.output ?? options.output;
  if (override.codebook === "fit" && output !== "w4a8") {
    throw new UsageError(
      `Cannot use ${origin}: codebook "fit" needs format w4a8, ${output} has no table of levels`,
    );
  }
  if (override.linearDtype === "int8" && output !== "w4a4") {
    throw new UsageError(
      `Cannot use ${origin}: linear_dtype "int8" needs format w4a4, ${output} has no choice`,
    );
  }
  // A format that is named brings its own scales and rotation; those of all layers are for INT8.
  const ownsScales = override.output !== null && isGridOutput(override.output);
  const merged: ConvertOptions = {
    ...options,
    output,
    groupSize: override.groupSize ?? options.groupSize,
    codebook: override.codebook ?? options.codebook,
    linearDtype: override.linearDtype ?? options.linearDtype,
    // Of the formats of one scale per row, the target chooses; a format that was named wins.
    target: writer?.target ?? options.target,
    // Naming a rotation asks for the one scaling that has it, naming a scaling for none.
    scaling: override.scaling ?? (isRotated ? "row" : ownsScales ? null : options.scaling),
    convrot: override.convrot ??
      (ownsScales ? null : override.scaling === null ? options.convrot : "off"),
    blockSize: override.blockSize ?? options.blockSize,
    heur: override.heur ?? options.heur,
    method: methodOf(options, override),
    fullPrecisionMatrixMult: override.fullPrecisionMatrixMult ?? options.fullPrecisionMatrixMult,
  };
  if (merged.output === "fp16") return { options: merged, mode: resolveMode(options) };
  try {
    refuseContradictions(merged, LAYER_CONFIG_NAMES);
    return { options: merged, mode: resolveMode(merged) };
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    throw new UsageError(`Cannot use ${origin}: ${cause.message}`, { cause });
  }
}

function methodOf(
  { method, target }: ConvertOptions,
  { simple, optimizer }: LayerOverride,
): ConvertOptions["method"] {
  if (simple === true) return "simple";
  if (optimizer !== null) return optimizer;
  if (simple !== false || method !== "simple") return method;
  return methodByDefault(target);
}
