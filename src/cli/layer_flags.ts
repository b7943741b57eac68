/**
 * The flags that concern single layers: `--layer-config`, the `--custom-...` and `--fallback` families,
 * and the LoRAs that are merged.
 */

import {
  type LayerFlags,
  NO_LAYER_FLAGS,
  type OverrideSources,
  readLayerFlags,
} from "../config/layer_overrides.ts";
import { loadLayerConfig } from "../config/load_layer_config.ts";
import type { LoraMergeOptions } from "../plan/options.ts";
import type { Parsed } from "./parse.ts";

/** All flags of the families. */
const NAMES = [
  "layer-config",
  "custom-layers",
  "custom-type",
  "custom-block-size",
  "custom-scaling-mode",
  "custom-simple",
  "custom-heur",
  "fallback",
  "fallback-block-size",
  "fallback-simple",
] as const;

/**
 * Returns what the flags ask for; null where none is given. Reads the layer config.
 *
 * @throws UsageError for a bad pattern, block size or layer config.
 */
export function layersOf(parsed: Parsed): OverrideSources | null {
  if (!NAMES.some((name) => parsed.has(name))) return null;
  const path = parsed.string("layer-config");
  return Object.freeze<OverrideSources>({
    config: path === null ? null : loadLayerConfig(path),
    fullmatch: parsed.bool("fullmatch"),
    flags: readLayerFlags({
      ...NO_LAYER_FLAGS,
      customLayers: parsed.string("custom-layers"),
      customType: parsed.string("custom-type") as LayerFlags["customType"],
      customBlockSize: parsed.number("custom-block-size"),
      customScalingMode: parsed.string("custom-scaling-mode") as LayerFlags["customScalingMode"],
      customSimple: parsed.bool("custom-simple"),
      customHeur: parsed.bool("custom-heur"),
      fallback: parsed.string("fallback") as LayerFlags["fallback"],
      fallbackBlockSize: parsed.number("fallback-block-size"),
      fallbackSimple: parsed.bool("fallback-simple"),
    }),
  });
}

/** Returns which LoRAs are merged; null where none is: `--merge-lora` first, then `--merge-loras`. */
export function mergeOf(parsed: Parsed): LoraMergeOptions | null {
  const single = parsed.string("merge-lora");
  const paths = [...(single === null ? [] : [single]), ...parsed.list("merge-loras")];
  if (paths.length === 0) return null;
  return Object.freeze<LoraMergeOptions>({
    paths,
    scale: parsed.number("merge-lora-scale") ?? 1,
    dampen: parsed.bool("merge-lora-dampen", true),
    strict: parsed.bool("strict"),
  });
}
