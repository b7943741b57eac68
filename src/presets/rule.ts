/**
 * Decides for every tensor of a model whether it is quantized, kept or removed, and says why.
 *
 * | preset | quantized |
 * |---|---|
 * | family, minimal | what the official rule takes |
 * | family, balanced | all candidates but the family's keep-list |
 * | family, conservative | ... but also its second keep-list and the edge blocks |
 * | unknown model, diffusers layout | what the official rule takes; conservative: no edge blocks |
 * | documented flags | all candidates but their substrings |
 * | none | all candidates |
 *
 * Candidates are the float 2-D `*.weight` of linear layers (`candidates.ts`). Already quantized
 * tensors are none by their dtype: to plan a requantization, pass what they dequantize to.
 */

import { isFloatDType } from "../core/dtype.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { bankMatcher } from "./banks.ts";
import { nonCandidateReason } from "./candidates.ts";
import { documentedRule } from "./documented.ts";
import { isLoraMatrix } from "./lora_keys.ts";
import { officialKeepReason } from "./official_rule.ts";
import { compilePatterns, isExcluded } from "./pattern.ts";
import type {
  Detection,
  Edges,
  Family,
  LayerDecision,
  LayerRule,
  NamePattern,
  PresetChoice,
  Tier,
} from "./preset.ts";
import { familyById } from "./registry.ts";
import { edgeBlockOf } from "./stacks.ts";

/** Input of {@link layerRule}. */
export interface LayerRuleOptions {
  readonly tier: Tier;
  readonly detection: Detection;
  readonly preset: PresetChoice;
  /** Tensors whose name it finds are kept. */
  readonly excludeLayers: RegExp | NamePattern | null;
  /** The matrices of LoRA pairs are candidates. */
  readonly lora: boolean;
}

/** Kept at both ends of an unknown model in the conservative tier. */
const UNKNOWN_EDGES: Edges = { first: 1, last: 1 };

/**
 * Returns the rule that `preset` and `tier` make for the detected model.
 *
 * Throws `UsageError` for an unknown family or documented preset, and `TypeError` for the preset kind
 * `like`, whose rule needs the reference file (`like.ts`).
 */
export function layerRule(options: LayerRuleOptions): LayerRule {
  const rule = baseRule(options);
  const { excludeLayers } = options;
  if (excludeLayers === null) return rule;
  return (tensor) => {
    const decision = rule(tensor);
    return decision.action === "quantize" && isExcluded(excludeLayers, tensor.name)
      ? keep(`--exclude-layers ${excludeLayers.source}`)
      : decision;
  };
}

function baseRule(options: LayerRuleOptions): LayerRule {
  const { detection, preset } = options;
  switch (preset.kind) {
    case "documented":
      return documentedRule(
        options.lora && !preset.names.includes("lora") ? [...preset.names, "lora"] : preset.names,
      );
    case "none":
      return candidateRule(options, () => null, "--preset none");
    case "family":
      return familyRule(options, familyById(preset.id));
    case "like":
      throw new TypeError('Cannot make a rule for the preset kind "like": use likeRule');
    case "auto":
      if (detection.layout === "lora") return adapterRule(options);
      if (detection.family !== null) return familyRule(options, familyById(detection.family));
      return unknownRule(options);
  }
}

/** Quantizes the candidates inside the model for which `keepReason` gives none. */
function candidateRule(
  options: LayerRuleOptions,
  keepReason: (tensor: TensorInfo) => string | null,
  reason: string,
): LayerRule {
  const { prefix } = options.detection;
  return (tensor) => {
    const kept = nonCandidateReason(tensor, options) ??
      (tensor.name.startsWith(prefix) ? null : `outside of the model behind "${prefix}"`) ??
      keepReason(tensor);
    return kept === null ? { action: "quantize", reason } : keep(kept);
  };
}

function familyRule(options: LayerRuleOptions, family: Family): LayerRule {
  const { prefix } = options.detection;
  const matchRemove = compilePatterns(family.remove ?? []);
  const rule = candidateRule(
    options,
    keepReasonOf(options, family),
    `${options.tier} tier of ${family.id}`,
  );
  const isBank = bankMatcher(family, options.detection);
  const keepReason = keepReasonOf(options, family);
  const bankDecision = (tensor: TensorInfo): LayerDecision => {
    // The official rule is one for matrices; banks are most of a model that has them.
    const kept = options.tier === "minimal" ? null : keepReason(tensor);
    return kept === null
      ? { action: "quantize", reason: `expert bank of ${family.id}` }
      : keep(kept);
  };
  return (tensor) => {
    if (isBank(tensor) && isFloatDType(tensor.dtype)) return bankDecision(tensor);
    const removed = matchRemove(ownName(tensor.name, prefix));
    return removed === null
      ? rule(tensor)
      : { action: "remove", reason: `${family.id} does not use "${removed}"` };
  };
}

function keepReasonOf(
  options: LayerRuleOptions,
  family: Family,
): (tensor: TensorInfo) => string | null {
  const { tier, detection: { prefix, stacks } } = options;
  if (tier === "minimal") return officialKeepReason;
  const conservative = tier === "conservative";
  const match = compilePatterns([
    ...family.keepBalanced,
    ...conservative ? family.keepConservative ?? [] : [],
  ]);
  const edges = conservative ? family.edges ?? family.edgesBalanced : family.edgesBalanced;
  return (tensor) => {
    const name = ownName(tensor.name, prefix);
    const pattern = match(name);
    if (pattern !== null) return `keep-list "${pattern}" of ${family.id}`;
    const block = edges === undefined ? null : edgeBlockOf(name, stacks, edges);
    return block === null ? null : `edge block ${block} of ${family.id}`;
  };
}

function unknownRule(options: LayerRuleOptions): LayerRule {
  const { tier, detection: { prefix, stacks } } = options;
  return candidateRule(options, (tensor) => {
    const official = officialKeepReason(tensor);
    if (official !== null || tier !== "conservative") return official;
    const block = edgeBlockOf(ownName(tensor.name, prefix), stacks, UNKNOWN_EDGES);
    return block === null ? null : `edge block ${block}`;
  }, "official rule");
}

/** In a LoRA nothing but its pairs is quantized, and those only when asked for. */
function adapterRule(options: LayerRuleOptions): LayerRule {
  return candidateRule(
    options,
    (tensor) => isLoraMatrix(tensor.name) ? null : "part of a LoRA",
    "--lora",
  );
}

function ownName(name: string, prefix: string): string {
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

function keep(reason: string): LayerDecision {
  return { action: "keep", reason };
}
