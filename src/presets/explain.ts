/** Detections, and the rule that acts on them, in words. */

import type { Detection, Family, PresetChoice, Tier } from "./preset.ts";
import { familyById } from "./registry.ts";

/** The request beside the model itself. */
export interface RuleChoice {
  /** The preset that was named, or how one is found. */
  readonly preset: PresetChoice;
  /** How many layers of a family are kept. */
  readonly tier: Tier;
}

/** The rule if nothing is asked for. */
const BY_DEFAULT: RuleChoice = Object.freeze<RuleChoice>({
  preset: { kind: "auto" },
  tier: "balanced",
});

/**
 * Returns one line for people, what the file is and which rule chooses its layers:
 * `flux2 (FLUX.2), balanced keep-list of 8 patterns`.
 */
export function explain(detection: Detection, choice: RuleChoice = BY_DEFAULT): string {
  const evidence = detection.evidence[0];
  const because = evidence === undefined ? "" : `, recognised by ${JSON.stringify(evidence)}`;
  const prefix = detection.prefix === "" ? "" : `, prefix ${JSON.stringify(detection.prefix)}`;
  if (detection.family !== null) {
    const family = familyById(detection.family);
    const head = `${family.id} (${family.title})${prefix}`;
    if (family.refuse !== undefined) return `${head}, not converted: ${family.refuse}`;
    return `${head}, ${ruleText(choice, family)}`;
  }
  switch (detection.layout) {
    case "lora":
      return `LoRA${because}`;
    case "diffusers":
      return `diffusers layout${because}${prefix}: ${ruleText(choice, null)}`;
    default:
      return `unknown model${because}${prefix}: ${ruleText(choice, null)}`;
  }
}

/** Returns a warning if the preset that was asked for is that of another family; null if it is not. */
export function presetOfAnother(detection: Detection, preset: PresetChoice): string | null {
  const { family } = detection;
  if (family === null || preset.kind !== "family" || preset.id === family) return null;
  return `the model is ${family}, by its names: the keep-list of ${preset.id} may keep the wrong layers; ` +
    "without --preset its own list applies";
}

/** Which rule chooses the layers. `family` is that of the model, if it is known. */
function ruleText({ preset, tier }: RuleChoice, family: Family | null): string {
  switch (preset.kind) {
    case "none":
      return "no keep-list (--preset none)";
    case "like":
      return `the layers of ${preset.path} (--like)`;
    case "documented":
      return `documented keep-list of ${preset.names.map((name) => `--${name}`).join(" and ")}`;
    case "family":
      return keepListText(familyById(preset.id), tier, preset.id !== family?.id);
    case "auto":
      if (family !== null) return keepListText(family, tier, false);
      return `the official rule applies${
        tier === "conservative" ? ", and edge blocks are kept" : ""
      }`;
  }
}

function keepListText(family: Family, tier: Tier, isAnother: boolean): string {
  const of = isAnother ? ` of ${family.id}` : "";
  if (tier === "minimal") return `the official rule applies (tier minimal${of})`;
  const more = tier === "conservative" ? family.keepConservative?.length ?? 0 : 0;
  const count = family.keepBalanced.length + more;
  const edges = tier === "conservative" && family.edges !== undefined ? ", edge blocks kept" : "";
  return `${tier} keep-list${of} of ${count} pattern${count === 1 ? "" : "s"}${edges}`;
}
