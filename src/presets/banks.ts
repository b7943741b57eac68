/**
 * Expert banks: 3-D weights `[experts, rows, columns]` that hold the same layer of every expert. Stock
 * ComfyUI loads them quantized in the families that say so (`Family.banks`); other 3-D weights are read raw.
 */

import { isWeightName } from "../core/layer_name.ts";
import { hasBankShape } from "../core/expert_bank.ts";
import { elementCount } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isComponent } from "./names.ts";
import { compilePatterns } from "./pattern.ts";
import type { Detection, Family, PresetChoice } from "./preset.ts";
import { familyById } from "./registry.ts";

/**
 * Returns whether a tensor is an expert bank that stock ComfyUI loads quantized for `family`, behind
 * `prefix`, whatever its dtype.
 */
export function bankMatcher(
  family: Family,
  { prefix }: Pick<Detection, "prefix">,
): (tensor: TensorInfo) => boolean {
  const match = compilePatterns(family.banks ?? []);
  return ({ name, shape }) =>
    shape.length === 3 && isWeightName(name) && name.startsWith(prefix) &&
    !isComponent(name) && elementCount(shape) !== 0 && match(name.slice(prefix.length)) !== null;
}

/** Returns whether a tensor is an expert bank that stock ComfyUI loads quantized in the family at hand. */
export function familyBanks(
  detection: Detection,
  preset: PresetChoice,
): (tensor: TensorInfo) => boolean {
  const id = preset.kind === "family"
    ? preset.id
    : (preset.kind === "auto" || preset.kind === "like") && detection.layout !== "lora"
    ? detection.family
    : null;
  return id === null ? () => false : bankMatcher(familyById(id), detection);
}

/** Whether a tensor looks like an expert bank: float matrices, one per expert, under any name. */
export function looksLikeBank(tensor: TensorInfo): boolean {
  return hasBankShape(tensor) && !isComponent(tensor.name);
}
