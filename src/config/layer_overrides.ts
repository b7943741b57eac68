/**
 * The overrides of a conversion, from all that can ask for one. For a layer the first counts that has
 * something to say: the patterns of the layer config; `--custom-layers`; for layers that would be kept
 * `--fallback`, for the others the config's `_default`.
 */

import { UsageError } from "../core/errors.ts";
import type { LayerConfig } from "./layer_config.ts";
import type { WeightOutput } from "../formats/outputs.ts";
import { type LayerOverride, NO_OVERRIDE } from "./layer_override.ts";
import { compileLayerPattern, type LayerPattern } from "./layer_pattern.ts";
import { resolveLayerConfig, type UnusedPattern } from "./resolve_layer_config.ts";

/** The flags of the `--custom-layers` and `--fallback` families. null: not given. */
export interface LayerFlags {
  /** The layers that get the custom settings: a regular expression. */
  readonly customLayers: string | null;
  /** Quantized, or cast to F16. */
  readonly customType: WeightOutput | null;
  /** Edge of their blocks. */
  readonly customBlockSize: number | null;
  /** Weights of them that share a scale. */
  readonly customScalingMode: "tensor" | "axis" | "row" | "block" | null;
  /** Round them to nearest. */
  readonly customSimple: boolean;
  /** Keep those that the settings do not fit. */
  readonly customHeur: boolean;
  /** Fallback of layers that would be kept otherwise. */
  readonly fallback: WeightOutput | null;
  /** Edge of their blocks. */
  readonly fallbackBlockSize: number | null;
  /** Round them to nearest. */
  readonly fallbackSimple: boolean;
}

/** No flag of the families given. */
export const NO_LAYER_FLAGS: LayerFlags = Object.freeze<LayerFlags>({
  customLayers: null,
  customType: null,
  customBlockSize: null,
  customScalingMode: null,
  customSimple: false,
  customHeur: false,
  fallback: null,
  fallbackBlockSize: null,
  fallbackSimple: false,
});

/** The flags, read. */
export interface LayerFlagOverrides {
  /** `--custom-layers`: which layers, and what they are to be. */
  readonly custom: { readonly pattern: LayerPattern; readonly override: LayerOverride } | null;
  /** For layers that would be kept. */
  readonly fallback: LayerOverride | null;
  /** Flags that change nothing here, as sentences. */
  readonly notes: readonly string[];
}

/**
 * Returns what the flags ask for.
 *
 * @throws UsageError for a bad pattern or block size.
 */
export function readLayerFlags(flags: LayerFlags): LayerFlagOverrides {
  const notes: string[] = [];
  checkBlockSize("--custom-block-size", flags.customBlockSize);
  checkBlockSize("--fallback-block-size", flags.fallbackBlockSize);
  const idle: TellIdle = (given, without) => {
    for (const [flag, value] of given) {
      if (value !== null && value !== false) {
        notes.push(`${flag} has no effect without ${without}`);
      }
    }
  };
  return { custom: customOf(flags, idle), fallback: fallbackOf(flags, idle), notes };
}

/** Notes the flags that are given and have no effect without another. */
type TellIdle = (
  given: readonly (readonly [flag: string, value: unknown])[],
  without: string,
) => void;

function customOf(flags: LayerFlags, idle: TellIdle): LayerFlagOverrides["custom"] {
  const mode = flags.customScalingMode;
  const details = [
    ["--custom-block-size", flags.customBlockSize],
    ["--custom-scaling-mode", mode],
    ["--custom-simple", flags.customSimple],
    ["--custom-heur", flags.customHeur],
  ] as const;
  if (flags.customLayers === null) {
    idle([["--custom-type", flags.customType], ...details], "--custom-layers");
    return null;
  }
  const pattern = compileLayerPattern(flags.customLayers, { place: "--custom-layers" });
  if (flags.customType === "fp16") idle(details, "--custom-type int8");
  return {
    pattern,
    override: {
      ...NO_OVERRIDE,
      // Naming layers without a type asks for them to be quantized.
      output: flags.customType ?? "int8",
      scaling: mode === "axis" ? "row" : mode,
      blockSize: flags.customBlockSize,
      simple: flags.customSimple ? true : null,
      heur: flags.customHeur ? true : null,
      origin: `--custom-layers ${JSON.stringify(flags.customLayers)}`,
    },
  };
}

function fallbackOf(flags: LayerFlags, idle: TellIdle): LayerOverride | null {
  const details = [
    ["--fallback-block-size", flags.fallbackBlockSize],
    ["--fallback-simple", flags.fallbackSimple],
  ] as const;
  if (flags.fallback === null) {
    idle(details, "--fallback");
    return null;
  }
  if (flags.fallback === "fp16") idle(details, "--fallback int8");
  return {
    ...NO_OVERRIDE,
    output: flags.fallback,
    blockSize: flags.fallbackBlockSize,
    simple: flags.fallbackSimple ? true : null,
    origin: `--fallback ${flags.fallback}`,
  };
}

/** Answers what is asked for each layer of one model. */
export interface LayerOverrides {
  /**
   * Returns the override of a layer, or null if nothing asks for one.
   *
   * @param layer its name, without `.weight`.
   * @param kept whether it would be kept otherwise: by a preset, a rule or `--exclude-layers`.
   */
  of(layer: string, kept: boolean): LayerOverride | null;
  /** Patterns that match no layer. */
  readonly unused: readonly UnusedLayerPattern[];
}

/** A pattern that matches no layer, and the flag or file that has it. */
export interface UnusedLayerPattern extends UnusedPattern {
  readonly place: string;
}

/** Sources of {@link layerOverrides}. */
export interface OverrideSources {
  /** The layer config; null without one. */
  readonly config: LayerConfig | null;
  /** `--fullmatch`: the patterns of the config match whole names. */
  readonly fullmatch: boolean;
  /** Settings of the flags. */
  readonly flags: LayerFlagOverrides;
  /** What was chosen for single layers, by name; counts last. Absent: nothing. */
  readonly chosen?: ReadonlyMap<string, LayerOverride>;
}

/** No config and no flags. */
export const NO_OVERRIDE_SOURCES: OverrideSources = Object.freeze({
  config: null,
  fullmatch: false,
  flags: Object.freeze({ custom: null, fallback: null, notes: Object.freeze([]) }),
});

/**
 * Returns the overrides for the layers of a model.
 *
 * @param layers the names of its layers, each once, without `.weight`.
 */
export function layerOverrides(
  layers: readonly string[],
  { config, fullmatch, flags, chosen }: OverrideSources,
): LayerOverrides {
  const resolved = config === null ? null : resolveLayerConfig(config, layers, { fullmatch });
  const custom = new Set(layers.filter((layer) => flags.custom?.pattern.test(layer)));
  const place = `layer config ${JSON.stringify(config?.path ?? "")}`;
  const unused: UnusedLayerPattern[] = (resolved?.unused ?? []).map((each) => ({ ...each, place }));
  if (flags.custom !== null && custom.size === 0) {
    const pattern = flags.custom.pattern.source;
    unused.push({ pattern, nearest: null, place: "--custom-layers" });
  }
  return {
    unused,
    of: (layer, kept) => {
      const fromConfig = resolved?.overrides.get(layer);
      if (fromConfig !== undefined) return fromConfig;
      if (flags.custom !== null && custom.has(layer)) return flags.custom.override;
      if (kept) return flags.fallback;
      return resolved?.default ?? chosen?.get(layer) ?? null;
    },
  };
}

function checkBlockSize(flag: string, value: number | null): void {
  if (value === null || (Number.isInteger(value) && value > 0)) return;
  throw new UsageError(`Cannot use ${flag} ${value}: a positive integer is needed`);
}
