/** From flags to what they ask for: only what was given, so that defaults stand in one place. */

import { loadLayerConfig } from "../config/load_layer_config.ts";
import { DEFAULT_CONVERT_OPTIONS, methodByDefault, SMOOTH_DEFAULTS } from "../plan/options.ts";
import type { GivenOptions, GivenSchedule } from "../plan/resolve_options.ts";
import type { ScheduleOptions } from "../quant/learned/options.ts";
import type { Flag } from "./flags/flag.ts";
import { FLAGS, PRESET_FLAGS } from "./flags/table.ts";
import { refuseOtherSchedules } from "./learned_flags.ts";
import { SCHEDULE_OPTIONS } from "./option_flags.ts";
import type { Parsed } from "./parse.ts";
import { readSize } from "./values.ts";

type Tree = Record<string, unknown>;

/**
 * Returns the options that flags were given for, in the shape that `resolveOptions` takes.
 *
 * @throws UsageError for a flag of another learning rate schedule than the one that was asked for, and
 * for a layer config that cannot be read.
 */
export function givenOptions(parsed: Parsed): GivenOptions {
  const given: Tree = {};
  for (const flag of FLAGS) {
    if (flag.option !== undefined && parsed.has(flag.name)) {
      place(given, flag.option.split("."), valueOf(parsed, flag));
    }
  }
  const seed = parsed.number("quip-seed") ?? parsed.number("manual_seed");
  if (seed !== null) place(given, ["quip", "seed"], seed);
  const schedule = scheduleOf(parsed);
  if (schedule !== null) place(given, ["learned", "schedule"], schedule);
  const path = parsed.string("layer-config");
  return {
    ...given,
    ...methodOf(parsed),
    ...(parsed.bool("fp16") ? { output: "fp16" } : {}),
    ...(parsed.bool("smoothquant")
      ? { smoothAlpha: parsed.number("smoothquant-alpha") ?? SMOOTH_DEFAULTS.alpha }
      : {}),
    ...(parsed.bool("quip-checkpointed") ? { segments: segmentsOf(parsed) } : {}),
    ...(path === null ? {} : { layerConfig: loadLayerConfig(path) }),
    ...fitOf(parsed),
    ...mergeOf(parsed),
    ...presetOf(parsed),
  };
}

/** `70%`, `12GB`; `bf16,int8`. */
function fitOf(parsed: Parsed): GivenOptions {
  const size = parsed.string("fit"), formats = parsed.string("fit-formats");
  const share = /^(\d+(?:\.\d+)?)\s*%$/.exec(size ?? "");
  return {
    ...(size === null ? {} : {
      fit: share === null ? { bytes: readSize("--fit", size) } : { share: Number(share[1]) / 100 },
    }),
    ...(formats === null ? {} : {
      fitFormats: formats.split(",").map((word) => word.trim()) as NonNullable<
        GivenOptions["fitFormats"]
      >,
    }),
  };
}

function place(tree: Tree, [first, ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) tree[first!] = value;
  else place(tree[first!] = { ...(tree[first!] as Tree ?? {}) }, rest, value);
}

function valueOf(parsed: Parsed, { name, type }: Flag): unknown {
  switch (type.kind) {
    case "bool":
      return parsed.bool(name) !== name.startsWith("no-");
    case "int":
    case "float":
    case "size":
      return parsed.number(name);
    case "optional": {
      const word = parsed.string(name);
      return /^\d+$/.test(word ?? "") ? Number(word) : word;
    }
    default:
      return parsed.string(name);
  }
}

function methodOf(parsed: Parsed): GivenOptions {
  const named = parsed.bool("simple") ? "simple" : parsed.string("optimizer");
  const target = parsed.string("target") ?? DEFAULT_CONVERT_OPTIONS.target;
  const method = named ?? methodByDefault(target as "comfyui");
  const order = method === "quip" ? "quip-actorder" : "gptq-actorder";
  return {
    ...(named === null ? {} : { method: named as NonNullable<GivenOptions["method"]> }),
    ...(parsed.has(order) ? { actOrder: parsed.bool(order) } : {}),
  };
}

function scheduleOf(parsed: Parsed): GivenSchedule | null {
  const asked = parsed.string("lr_schedule") as ScheduleOptions["kind"] | null;
  if (asked !== null) refuseOtherSchedules(parsed, asked);
  const kind = asked ?? DEFAULT_CONVERT_OPTIONS.learned.schedule.kind;
  const own = Object.entries(SCHEDULE_OPTIONS[kind]).filter(([, name]) => parsed.has(name));
  if (asked === null && own.length === 0) return null;
  const values = own.map(([key, name]) => [key, parsed.number(name) ?? parsed.string(name)]);
  return { kind, ...Object.fromEntries(values) };
}

function segmentsOf(parsed: Parsed): NonNullable<GivenOptions["segments"]> {
  return {
    threshold: parsed.number("quip-checkpoint-threshold") ?? undefined,
    count: parsed.number("quip-checkpoint-segments") ?? undefined,
  };
}

/** Which LoRAs are merged: `--merge-lora` first, then `--merge-loras`. */
function mergeOf(parsed: Parsed): GivenOptions {
  const single = parsed.string("merge-lora");
  const paths = [...(single === null ? [] : [single]), ...parsed.list("merge-loras")];
  if (paths.length === 0) return {};
  return {
    merge: {
      paths,
      scale: parsed.number("merge-lora-scale") ?? undefined,
      dampen: parsed.has("merge-lora-dampen") ? parsed.bool("merge-lora-dampen") : undefined,
      strict: parsed.bool("strict"),
    },
  };
}

function presetOf(parsed: Parsed): GivenOptions {
  const names = PRESET_FLAGS.filter((name) => parsed.bool(name));
  if (names.length > 0) return { preset: { kind: "documented", names } };
  const path = parsed.string("like");
  if (path !== null) return { preset: { kind: "like", path } };
  const name = parsed.string("preset");
  return name === null ? {} : { preset: name };
}
