/** Gathers tensors to layers: which weights hold codes, and what stands beside them. Pure, by names and dtypes. */

import { type DType, isFloatDType } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { isScaledFp8 } from "./marker_reader.ts";

/** A weight and its companions, before anyone has looked at a marker. */
export interface GatheredLayer {
  readonly layer: string;
  readonly weight: SourceTensor | null;
  readonly parts: ReadonlyMap<string, SourceTensor>;
  readonly bias: SourceTensor | null;
  readonly markerTensor: SourceTensor | null;
  /** Whether its tensors alone show that it is quantized. */
  readonly isQuantized: boolean;
  /** Whether it has scales of a weight, and no weight. */
  readonly isHalf: boolean;
}

/** Names of tensors that say how a weight beside them is stored. */
const COMPANION =
  /^qweight$|scale|zero|absmax|scb|quant|packed|blocks$|codebook|g_idx|perm$|smooth|svd_(up|down)|hadamard|sign_(row|col)$|(lora|proj)_(up|down)$|s_rel$|s_channel$|correction$|weight_shape$|lut$|centroid|^weight\.|^w_q$|_data$/i;

/** Companions that hold the codes if there is no weight. */
const CODES = /^(qweight|weight_packed|w_q|blocks)$|^weight\./i;

/** Names that only scales of a weight have. */
const SCALES = /^(weight_scale(_2|_inv|s)?|scale_weight|weight_s_rel|weight_s_channel|SCB)$/;

/** Scales of the inputs or outputs of a layer: they say nothing of its weight. */
const ACTIVATIONS =
  /^(input|output|activation|input_activation|output_activation|scale)_(input|output|scales?)$|^(k|v|q|k_cache|v_cache)_scale$/;

/** Whether a companion of this name concerns activations and not the weight. */
export function isActivationPart(part: string): boolean {
  return ACTIVATIONS.test(part);
}

/** Returns the name of a tensor that belongs to `layer`. */
export function partName(layer: string, part: string): string {
  return layer === "" ? part : `${layer}.${part}`;
}

/**
 * Returns the layers of a model that have a weight with codes or a marker, in the order of their tensors.
 *
 * @param tensors all of the model.
 */
export function gatherLayers(tensors: readonly SourceTensor[]): GatheredLayer[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const families = familiesOf(tensors);
  const layers = new Map<string, GatheredLayer>();
  for (const { name } of tensors) {
    for (const layer of layersNamed(name)) {
      if (layers.has(layer)) continue;
      const found = gather(layer, { byName, family: families.get(layer) ?? new Map() });
      if (found !== null) layers.set(layer, found);
    }
  }
  return [...layers.values()];
}

/** Tensors by the layer that their names begin with, and what the names add. */
function familiesOf(tensors: readonly SourceTensor[]): Map<string, Map<string, SourceTensor>> {
  const families = new Map<string, Map<string, SourceTensor>>();
  for (const tensor of tensors) {
    if (isScaledFp8(tensor.name)) continue;
    const [layer, part] = splitName(tensor.name);
    const family = families.get(layer) ?? new Map<string, SourceTensor>();
    family.set(part, tensor);
    families.set(layer, family);
  }
  return families;
}

/** `a.b.weight.absmax` is `weight.absmax` of `a.b`. */
function splitName(name: string): [layer: string, part: string] {
  const inWeight = name.lastIndexOf(".weight.");
  if (inWeight >= 0) return [name.slice(0, inWeight), name.slice(inWeight + 1)];
  const dot = name.lastIndexOf(".");
  return dot < 0 ? ["", name] : [name.slice(0, dot), name.slice(dot + 1)];
}

/** The layers that a tensor may be part of: the one its name begins with, and a parameter without `.weight`. */
function layersNamed(name: string): string[] {
  const [layer, part] = splitName(name);
  const packed = part.match(/^(\w+)_blocks$/)?.[1];
  if (packed !== undefined) return [layer, partName(layer, packed)];
  const isParameter = part !== "weight" && part !== "bias" && part !== "comfy_quant" &&
    !COMPANION.test(part);
  return isParameter ? [layer, name] : [layer];
}

function gather(
  layer: string,
  { byName, family }: {
    byName: ReadonlyMap<string, SourceTensor>;
    family: ReadonlyMap<string, SourceTensor>;
  },
): GatheredLayer | null {
  const weight = family.get("weight") ?? byName.get(layer) ?? null;
  const parts = new Map(
    [...family].filter(([part]) =>
      part !== "weight" && part !== "comfy_quant" && part !== "bias" && COMPANION.test(part)
    ),
  );
  // Parameters without `.weight` have their companions beside them.
  if (!family.has("weight")) {
    for (const part of ["blocks", "scale", "scales", "scale_inv", "zeros", "zero_point"]) {
      const beside = byName.get(`${layer}_${part}`);
      if (beside !== undefined && (weight !== null || part !== "scale")) parts.set(part, beside);
    }
  }
  const markerTensor = family.get("comfy_quant") ?? null;
  const bias = family.get("bias") ?? byName.get(`${layer}_bias`) ?? null;
  const isQuantized = holdsCodes(layer, weight, parts, family.has("weight"));
  const isHalf = weight === null && !isQuantized && [...parts.keys()].some((p) => SCALES.test(p));
  if (!isQuantized && !isHalf && markerTensor === null) return null;
  return { layer, weight, parts, bias, markerTensor, isQuantized, isHalf };
}

function holdsCodes(
  layer: string,
  weight: SourceTensor | null,
  parts: ReadonlyMap<string, SourceTensor>,
  isNamedWeight: boolean,
): boolean {
  if (weight === null) {
    return [...parts].some(([part, { dtype, shape }]) =>
      CODES.test(part) && isOpaque(dtype) && shape.length >= 2
    );
  }
  const { dtype, shape } = weight;
  if (!isOpaque(dtype) && !isFloat8(dtype)) return false;
  if (shape.length < 2) return parts.has("scale_weight");
  if (isFloat8(dtype)) return parts.size > 0;
  // Integers that no one calls a weight may be anything: position tables, tokenizers.
  return isNamedWeight || parts.size > 0 || (shape.length === 3 && /expert/.test(layer));
}

/** Whether elements of a dtype are codes: they mean nothing by themselves. */
function isOpaque(dtype: DType): boolean {
  return !isFloatDType(dtype) && dtype !== "BOOL" && dtype !== "C64";
}

function isFloat8(dtype: DType): boolean {
  return dtype === "F8_E4M3" || dtype === "F8_E5M2";
}
