/**
 * From what was asked for to the options of a conversion: checked, filled up with the defaults, frozen.
 * The one way to get them, whether a command line asks, `convertToInt8` or a converter of single weights.
 */

import type { LayerConfig } from "../config/layer_config.ts";
import {
  type LayerFlags,
  NO_LAYER_FLAGS,
  type OverrideSources,
  readLayerFlags,
} from "../config/layer_overrides.ts";
import { compileLayerPattern } from "../config/layer_pattern.ts";
import { documentedPreset } from "../presets/documented.ts";
import { familyById, presetByName } from "../presets/registry.ts";
import { type LearnedOptions, type ScheduleOptions, SCHEDULES } from "../quant/learned/options.ts";
import { refuseContradictions } from "./contradictions.ts";
import { LIBRARY_NAMES, type OptionNames } from "./option_names.ts";
import { checkOptions, OPTION_ENTRIES } from "./option_schema.ts";
import {
  type ConvertOptions,
  CTQ_DEFAULTS,
  DEFAULT_CONVERT_OPTIONS,
  DEFAULT_MERGE,
  DEFAULT_SEGMENTS,
  type LoraMergeOptions,
  methodByDefault,
  type QuipOptions,
  type Segments,
} from "./options.ts";

/** `T` with every property optional, and allowed to be undefined. */
export type Loose<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Options as callers give them: {@link ConvertOptions} in part, and shorter ways to say some of them. */
export interface GivenOptions extends
  Loose<
    Omit<
      ConvertOptions,
      "scaling" | "learned" | "quip" | "segments" | "merge" | "excludeLayers" | "preset"
    >
  >,
  Loose<LayerFlags> {
  /** As in {@link ConvertOptions}; `axis` is another word for `row`. */
  readonly scaling?: ConvertOptions["scaling"] | "axis" | undefined;
  /** How `original`, `adamw` and `radam` learn, in part. */
  readonly learned?: GivenLearnedOptions | undefined;
  /** Options of `quip`, in part. */
  readonly quip?: Loose<QuipOptions> | undefined;
  /** How the columns of large layers are cut, in part; null: they are not. */
  readonly segments?: Loose<Segments> | null | undefined;
  /** LoRAs to merge. */
  readonly merge?:
    | Pick<LoraMergeOptions, "paths"> & Loose<Omit<LoraMergeOptions, "paths">>
    | null
    | undefined;
  /** Layers to keep: a regular expression that is found in their names. */
  readonly excludeLayers?: ConvertOptions["excludeLayers"] | string | undefined;
  /** Which layers are kept: a choice, or a name as `--preset` takes it. */
  readonly preset?: ConvertOptions["preset"] | string | undefined;
  /** The result of `loadLayerConfig`. */
  readonly layerConfig?: LayerConfig | null | undefined;
  /** The patterns of the layer config match whole names. */
  readonly fullmatch?: boolean | undefined;
}

/** {@link LearnedOptions} in part; a schedule needs its kind only. */
export interface GivenLearnedOptions extends Loose<Omit<LearnedOptions, "schedule">> {
  /** How the rate changes. */
  readonly schedule?: GivenSchedule | undefined;
}

/** A schedule, in part. */
export type GivenSchedule = {
  [K in ScheduleOptions["kind"]]:
    & { readonly kind: K }
    & Loose<Omit<Extract<ScheduleOptions, { kind: K }>, "kind">>;
}[ScheduleOptions["kind"]];

/** The options that make up `layers`. */
const LAYER_FLAGS = Object.keys(NO_LAYER_FLAGS) as (keyof LayerFlags)[];

/**
 * Returns the options that `given` asks for.
 *
 * @param options `names`: how options are written by who asked, for messages; `what`: the set of options.
 * @throws UsageError for an unknown option, with the nearest; for a wrong value; for a contradiction.
 */
export function resolveOptions(
  given: GivenOptions,
  { names = LIBRARY_NAMES, what = "a conversion" }: { names?: OptionNames; what?: string } = {},
): ConvertOptions {
  const asked = checkOptions(OPTION_ENTRIES, given, { names, what }) as GivenOptions;
  const {
    scaling,
    learned,
    quip,
    segments,
    merge,
    excludeLayers,
    preset,
    layers,
    layerConfig,
    fullmatch,
    ...rest
  } = asked;
  const plain = Object.fromEntries(
    Object.entries(rest).filter(([name]) => !(LAYER_FLAGS as readonly string[]).includes(name)),
  ) as Partial<ConvertOptions>;
  const target = plain.target ?? DEFAULT_CONVERT_OPTIONS.target;
  const choice = presetOf(preset, target);
  const options = Object.freeze<ConvertOptions>({
    ...DEFAULT_CONVERT_OPTIONS,
    method: methodByDefault(target),
    ...plain,
    scaling: scaling === undefined
      ? DEFAULT_CONVERT_OPTIONS.scaling
      : scaling === "axis"
      ? "row"
      : scaling,
    learned: learnedOf(learned ?? {}),
    quip: Object.freeze({ ...DEFAULT_CONVERT_OPTIONS.quip, ...defined(quip ?? {}) }),
    segments: segments === undefined
      ? DEFAULT_CONVERT_OPTIONS.segments
      : segments && Object.freeze({ ...DEFAULT_SEGMENTS, ...defined(segments) }),
    merge: merge === undefined
      ? DEFAULT_CONVERT_OPTIONS.merge
      : merge && Object.freeze({ ...DEFAULT_MERGE, ...defined(merge), paths: merge.paths }),
    excludeLayers: typeof excludeLayers === "string"
      ? compileLayerPattern(excludeLayers, { place: names("excludeLayers") })
      : excludeLayers ?? DEFAULT_CONVERT_OPTIONS.excludeLayers,
    preset: choice,
    lora: plain.lora ??
      (DEFAULT_CONVERT_OPTIONS.lora ||
        (choice.kind === "documented" && choice.names.includes("lora"))),
    layers: layers ?? layersOf(asked, { layerConfig, fullmatch }),
  });
  refuseContradictions(options, names);
  return options;
}

function presetOf(
  preset: GivenOptions["preset"],
  target: ConvertOptions["target"],
): ConvertOptions["preset"] {
  if (typeof preset === "string") return presetByName(preset);
  if (preset?.kind === "family") familyById(preset.id);
  if (preset?.kind === "documented") preset.names.forEach((name) => documentedPreset(name));
  return preset ?? (target === "ctq" ? CTQ_DEFAULTS.preset : DEFAULT_CONVERT_OPTIONS.preset);
}

function learnedOf(given: GivenLearnedOptions): LearnedOptions {
  const base = DEFAULT_CONVERT_OPTIONS.learned;
  const { schedule, ...rest } = given;
  const kind = schedule?.kind ?? base.schedule.kind;
  return Object.freeze<LearnedOptions>({
    ...base,
    ...defined(rest),
    // One of the bounds alone moves the other one out of its way.
    minDirections: given.minDirections ??
      Math.min(base.minDirections, given.maxDirections ?? Infinity),
    maxDirections: given.maxDirections ?? Math.max(base.maxDirections, given.minDirections ?? 0),
    schedule: Object.freeze({
      ...(kind === base.schedule.kind ? base.schedule : SCHEDULES[kind]),
      ...defined(schedule ?? {}),
    }) as ScheduleOptions,
  });
}

function layersOf(
  given: GivenOptions,
  { layerConfig = null, fullmatch = false }: Pick<GivenOptions, "layerConfig" | "fullmatch">,
): OverrideSources | null {
  const flags = Object.fromEntries(
    LAYER_FLAGS.flatMap((name) => given[name] === undefined ? [] : [[name, given[name]]]),
  ) as Partial<LayerFlags>;
  if (layerConfig === null && Object.keys(flags).length === 0) {
    return DEFAULT_CONVERT_OPTIONS.layers;
  }
  return Object.freeze<OverrideSources>({
    config: layerConfig,
    fullmatch,
    flags: readLayerFlags({ ...NO_LAYER_FLAGS, ...flags }),
  });
}

function defined<T extends object>(
  values: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as ReturnType<typeof defined<T>>;
}
