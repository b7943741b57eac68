/** Alphas that a LoRA file keeps in its header metadata instead of tensors. */

import { parseJsonStrict } from "../core/json.ts";
import type { LoraProblem } from "./lora_module.ts";

/** The alpha of one module, by metadata. */
export interface MetadataAlpha {
  readonly key: string;
  readonly value: number;
}

/** Factors of all modules in the metadata. */
export interface LoraMetadata {
  /** Returns the alpha of a module, or null if the metadata names none. */
  alphaOf(moduleKey: string): MetadataAlpha | null;
  /** The rank that the metadata gives a module; null if it gives none, or several. */
  rankOf(moduleKey: string): MetadataAlpha | null;
  /** Whether `alpha / sqrt(rank)` is the factor of a module. */
  rankStabilized(moduleKey: string): boolean;
  readonly problems: readonly LoraProblem[];
}

/** Metadata keys whose value is one PEFT configuration per component, as JSON. */
const PEFT_KEYS = [
  "lora_adapter_metadata",
  "peft_config",
  "adapter_config",
  "adapter_config.json", // the file beside the adapter
] as const;
/** Metadata keys whose value is the alpha of the whole file. */
const NUMBER_KEYS = ["ss_network_alpha", "network_alpha", "lora_alpha"] as const;
/** Components that diffusers puts before a configuration's keys. */
const COMPONENTS = ["transformer", "transformer_2", "unet", "text_encoder", "text_encoder_2"];

/**
 * Reads the alphas of a file's metadata.
 *
 * @param metadata the `__metadata__` map; null if there is none.
 */
export function readLoraMetadata(metadata: Readonly<Record<string, string>> | null): LoraMetadata {
  const problems: LoraProblem[] = [];
  const add = (tensor: string, message: string) =>
    problems.push({ module: null, tensor, message, unsupported: false });
  let config: PeftConfig | null = null;
  for (const key of PEFT_KEYS) {
    const text = metadata?.[key];
    if (text === undefined || config !== null) continue;
    try {
      const value = parseJsonStrict(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        config = { key, values: value as Record<string, unknown> };
      } else {
        add(key, "it is not a JSON object");
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      add(key, `it is not JSON: ${error.message}`);
    }
  }
  let whole: MetadataAlpha | null = null;
  for (const key of NUMBER_KEYS) {
    const text = metadata?.[key];
    // Trainers write "None" if the alpha was left to its default.
    if (text === undefined || text === "None" || text === "null" || whole !== null) continue;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) {
      add(key, `alpha is ${JSON.stringify(text)}, a finite number is needed`);
    } else {
      whole = { key, value };
    }
  }
  if (config !== null) checkConfig(config, add);
  return {
    alphaOf: (moduleKey) => (config === null ? null : peftAlpha(config, moduleKey)) ?? whole,
    rankOf: (moduleKey) => config === null ? null : peftRank(config, moduleKey),
    rankStabilized: (moduleKey) =>
      config !== null && valueOf(config, moduleKey, "use_rslora") === true,
    problems,
  };
}

interface PeftConfig {
  readonly key: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Returns `values[name]`, or that of the module's component: `transformer.lora_alpha`. */
function valueOf(config: PeftConfig, moduleKey: string, name: string): unknown {
  const component = COMPONENTS.find((c) => moduleKey.startsWith(`${c}.`));
  return (component === undefined ? undefined : config.values[`${component}.${name}`]) ??
    config.values[name];
}

function peftAlpha(config: PeftConfig, moduleKey: string): MetadataAlpha | null {
  const pattern = valueOf(config, moduleKey, "alpha_pattern");
  if (typeof pattern === "object" && pattern !== null) {
    for (const [name, value] of Object.entries(pattern)) {
      if (typeof value !== "number") continue;
      // The keys are names of layers, at times anchored as regular expressions.
      const layer = name.replace(/^\^/, "").replace(/\$$/, "").replaceAll("\\.", ".");
      if (moduleKey === layer || moduleKey.endsWith(`.${layer}`)) {
        return { key: `${config.key}.alpha_pattern`, value };
      }
    }
  }
  const alpha = valueOf(config, moduleKey, "lora_alpha");
  return typeof alpha === "number" ? { key: `${config.key}.lora_alpha`, value: alpha } : null;
}

/** The rank of all modules; a pattern of ranks makes it that of some. */
function peftRank(config: PeftConfig, moduleKey: string): MetadataAlpha | null {
  const pattern = valueOf(config, moduleKey, "rank_pattern");
  if (typeof pattern === "object" && pattern !== null && Object.keys(pattern).length > 0) {
    return null;
  }
  const rank = valueOf(config, moduleKey, "r");
  return typeof rank === "number" ? { key: `${config.key}.r`, value: rank } : null;
}

function checkConfig(config: PeftConfig, add: (tensor: string, message: string) => void): void {
  const check = (name: string, value: unknown) => {
    if (value === null || (typeof value === "number" && Number.isFinite(value))) return;
    add(config.key, `${name} is ${JSON.stringify(value)}, a finite number is needed`);
  };
  for (const [name, value] of Object.entries(config.values)) {
    if (/(^|\.)lora_alpha$/.test(name)) check(name, value);
    if (/(^|\.)alpha_pattern$/.test(name) && typeof value === "object" && value !== null) {
      for (const [layer, alpha] of Object.entries(value)) check(`${name}["${layer}"]`, alpha);
    }
  }
}
