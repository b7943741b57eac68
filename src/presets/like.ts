/** `--like FILE`: quantizes the layers that an existing file quantized, in the way it did. */

import { isWeightName, layerName } from "../core/layer_name.ts";
import type { TensorInfo, Tensors } from "../core/tensor.ts";
import { structuralReason } from "./candidates.ts";
import { withoutModelPrefix } from "./names.ts";
import { isExcluded } from "./pattern.ts";
import type { LayerRecipe, LayerRule, NamePattern } from "./preset.ts";

/** A quantized layer of the reference file. */
export interface ReferenceLayer {
  /** Full name without `.weight`, as in the reference file. */
  readonly layer: string;
  /** How it is quantized there; null: in a way that there is no recipe for, so that the options decide. */
  readonly recipe: LayerRecipe | null;
}

/** The rule of a reference file for one model. */
export interface LikeRule {
  /** Its `quantize` decisions carry the {@link LayerRecipe}. */
  readonly rule: LayerRule;
  /** Layers of the reference that the model lacks, in the reference's order. */
  readonly missing: readonly string[];
}

/**
 * Returns the rule that quantizes exactly the layers of `reference` among `tensors`, embeddings
 * included if the reference has them, and keeps all else. Names match as they are, or without a
 * known prefix (`model.diffusion_model.`, ...) on either side if that is unambiguous.
 *
 * @param reference the quantized layers of the reference file
 * @param tensors the model's tensors, in any order
 * @param options `excludeLayers` keeps the tensors whose name it finds; `isBank`: which 3-D tensors are expert
 * banks that the loader knows quantized
 */
export function likeRule(
  reference: readonly ReferenceLayer[],
  tensors: Tensors,
  options: {
    readonly excludeLayers?: RegExp | NamePattern | null;
    readonly isBank?: (tensor: TensorInfo) => boolean;
  } = {},
): LikeRule {
  const { isBank = () => false } = options;
  const excludeLayers = options.excludeLayers ?? null;
  const exact = new Map(reference.map((layer) => [layer.layer, layer]));
  const bare = new Map(reference.map((layer) => [withoutModelPrefix(layer.layer), layer]));
  const find = (name: string) =>
    exact.get(layerName(name)) ?? bare.get(withoutModelPrefix(layerName(name)));
  const present = new Set(
    tensors.filter(({ name }) => isWeightName(name)).map(({ name }) => find(name)?.layer),
  );
  const rule: LayerRule = (tensor) => {
    const layer = isWeightName(tensor.name) ? find(tensor.name) : undefined;
    if (layer === undefined) {
      return { action: "keep", reason: "not quantized in the reference file" };
    }
    const barred = isBank(tensor) ? null : structuralReason(tensor, { lora: true });
    if (barred !== null) return { action: "keep", reason: barred };
    if (excludeLayers !== null && isExcluded(excludeLayers, tensor.name)) {
      return { action: "keep", reason: `--exclude-layers ${excludeLayers.source}` };
    }
    const { recipe } = layer, reason = "quantized in the reference file";
    return recipe === null
      ? { action: "quantize", reason }
      : { action: "quantize", reason, recipe };
  };
  return {
    rule,
    missing: reference.map(({ layer }) => layer).filter((layer) => !present.has(layer)),
  };
}
