/** Which flag says what of the options of a conversion: how a message names an option of theirs. */

import { LIBRARY_NAMES, type OptionNames, shownValue } from "../plan/option_names.ts";
import type { Flag } from "./flags/flag.ts";
import { FLAGS } from "./flags/table.ts";

/** Flags that set an option together with another flag, or by their name alone. */
const OTHER_FLAGS: Readonly<Record<string, string>> = {
  method: "optimizer",
  smoothAlpha: "smoothquant-alpha",
  "segments.threshold": "quip-checkpoint-threshold",
  "segments.count": "quip-checkpoint-segments",
  "merge.paths": "merge-lora",
  "merge.scale": "merge-lora-scale",
  "merge.dampen": "merge-lora-dampen",
  "learned.schedule": "lr_schedule",
  layerConfig: "layer-config",
  fit: "fit",
  fitFormats: "fit-formats",
  preset: "preset",
};

/** Learning rates: what a schedule has, and its flag. */
export const SCHEDULE_OPTIONS = Object.freeze(
  {
    adaptive: { mode: "lr_adaptive_mode" },
    exponential: { gamma: "lr_gamma" },
    plateau: {
      patience: "lr_patience",
      factor: "lr_factor",
      min: "lr_min",
      cooldown: "lr_cooldown",
      threshold: "lr_threshold",
      thresholdMode: "lr-threshold-mode",
      shapeInfluence: "lr-shape-influence",
    },
  } as const,
);

const BY_OPTION: ReadonlyMap<string, string> = new Map([
  ...FLAGS.flatMap(({ option, name }) => option === undefined ? [] : [[option, name] as const]),
  ...Object.entries(OTHER_FLAGS),
  ...Object.values(SCHEDULE_OPTIONS).flatMap((names) =>
    Object.entries(names).map(([key, name]) => [`learned.schedule.${key}`, name] as const)
  ),
]);

/** The flags whose option is `path`, or one of those in it. */
export function flagsOfOption(path: string): string[] {
  return FLAGS.filter(({ option }) => option === path || option?.startsWith(`${path}.`))
    .map(({ name }: Flag) => name);
}

/** The command line's way to write an option: `--scaling_mode row`, `--no-comfy_quant`. */
export const flagNames: OptionNames = (path, value) => {
  // An entry of a list has the name of the list.
  const name = BY_OPTION.get(path.replace(/\.\d+$/, ""));
  if (name === undefined) return LIBRARY_NAMES(path, value);
  if (value === undefined || value === true) return `--${name}`;
  if (value === false) {
    return name.startsWith("no-") ? `--${name}` : `--no-${name.replaceAll("_", "-")}`;
  }
  return `--${name} ${typeof value === "string" ? value : shownValue(value)}`;
};
