/** Gathers tensors to layers: which weights hold codes, and what stands beside them. Pure, by names and dtypes. */

import { type DType, isFloatDType } from "../core/dtype.ts";
import type { SourceTensor, Tensors } from "../core/tensor.ts";
import { elementsOf } from "./layer_shapes.ts";
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
  /^q_?weight$|^qidxs$|^trellis$|^codes$|qdata$|scale|zero|absmax|scb|quant|packed|blocks$|codebook|g_idx|perm$|smooth|svd_(up|down)|hadamard|sign_(row|col)$|(lora|proj)_(up|down)$|s_rel$|s_channel$|correction$|weight_shape$|lut$|centroid|^weight[.:]|^w_q$|_data$/i;

/** Companions that hold the codes if there is no weight. */
const CODES =
  /^(q_?weight|qidxs|trellis|codes|_?weight_qdata|weight_packed|w_q|blocks)$|^weight[.:]/i;

/** Names that only scales of a weight have. */
const SCALES = /^(_?weight[_:]scales?(_2|_inv)?|scale_weight|weight_s_rel|weight_s_channel|SCB)$/;

/** Integers that are no codes: what a model looks up, counts or leaves out. */
const TABLE = /(^|_)(ids?|index|indexes|indices|masks?|positions?|bias|lengths?|tokens?)$/i;

/** A tensor of integers with fewer elements, or with fewer than two sizes of 8, is no weight. */
const LEAST_CODES = 1024, LEAST_SIDE = 8;

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
export function gatherLayers(tensors: Tensors<SourceTensor>): GatheredLayer[] {
  const suspects = suspectLayers(tensors);
  if (suspects.size === 0) return [];
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const families = familiesOf(tensors, suspects);
  const layers = new Map<string, GatheredLayer>();
  for (const { name } of tensors) {
    for (const layer of layersNamed(name)) {
      if (!suspects.has(layer) || layers.has(layer)) continue;
      const found = gather(layer, { byName, family: families.get(layer) ?? new Map() });
      if (found !== null) layers.set(layer, found);
    }
  }
  return [...layers.values()];
}

/**
 * Layers of which a tensor has codes, or the name of a companion: of a model of plain weights none, and
 * nothing has to be gathered.
 */
function suspectLayers(tensors: Tensors<SourceTensor>): ReadonlySet<string> {
  const suspects = new Set<string>();
  for (const { name, dtype } of tensors) {
    const [, part] = splitName(name);
    if (!isOpaque(dtype) && !isFloat8(dtype) && part !== "comfy_quant" && !COMPANION.test(part)) {
      continue;
    }
    for (const layer of layersNamed(name)) suspects.add(layer);
  }
  return suspects;
}

/** Tensors of `layers` by the layer that their names begin with, and what the names add. */
function familiesOf(
  tensors: Tensors<SourceTensor>,
  layers: ReadonlySet<string>,
): Map<string, Map<string, SourceTensor>> {
  const families = new Map<string, Map<string, SourceTensor>>();
  for (const tensor of tensors) {
    if (isScaledFp8(tensor.name)) continue;
    const [layer, part] = splitName(tensor.name);
    if (!layers.has(layer)) continue;
    const family = families.get(layer) ?? new Map<string, SourceTensor>();
    family.set(part, tensor);
    families.set(layer, family);
  }
  return families;
}

/** `a.b.weight.absmax` is `weight.absmax` of `a.b`; so are the parts of `a.b.weight_quantizer`. */
function splitName(name: string): [layer: string, part: string] {
  const inWeight = Math.max(name.lastIndexOf(".weight."), name.lastIndexOf(".weight_quantizer."));
  if (inWeight >= 0) return [name.slice(0, inWeight), name.slice(inWeight + 1)];
  const dot = name.lastIndexOf(".");
  return dot < 0 ? ["", name] : [name.slice(0, dot), name.slice(dot + 1)];
}

/** The layers that a tensor may be part of: the one its name begins with, and a parameter without `.weight`. */
function layersNamed(name: string): string[] {
  const [layer, part] = splitName(name);
  const packed = part.match(/^(\w+)_(?:blocks|scales)$/)?.[1];
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
  const isQuantized = holdsCodes(weight, parts, family.has("weight"));
  const isHalf = weight === null && !isQuantized && [...parts].some(isScaleOfWeight);
  if (!isQuantized && !isHalf && markerTensor === null) return null;
  return { layer, weight, parts, bias, markerTensor, isQuantized, isHalf };
}

/** Whether a companion is the scale of a weight and of nothing else. */
function isScaleOfWeight([part, { dtype, shape }]: [string, SourceTensor]): boolean {
  if (part !== "scales") return SCALES.test(part);
  // Models have parameters of that name: those of weights are exponents, or stand for groups.
  return isOpaque(dtype) || (shape.length === 2 && shape.every((size) => size > 1));
}

function holdsCodes(
  weight: SourceTensor | null,
  parts: ReadonlyMap<string, SourceTensor>,
  isNamedWeight: boolean,
): boolean {
  if (weight === null) {
    return [...parts].some(([part, { dtype, shape }]) =>
      CODES.test(part) && (isOpaque(dtype) || isFloat8(dtype)) && shape.length >= 2
    );
  }
  const { dtype, shape } = weight;
  if (!isOpaque(dtype) && !isFloat8(dtype)) return false;
  if (isFloat8(dtype) || shape.length < 2) return parts.size > 0;
  return isNamedWeight || parts.size > 0 || isLikeCodes(weight);
}

/** Whether integers that no one calls a weight are one all the same, by dtype, size and name. */
function isLikeCodes({ name, dtype, shape }: SourceTensor): boolean {
  // Positions and counts are I64.
  if (dtype === "I64" || dtype === "U64" || TABLE.test(splitName(name)[1])) return false;
  return shape.filter((size) => size >= LEAST_SIDE).length >= 2 &&
    elementsOf(shape) >= LEAST_CODES;
}

/** Whether elements of a dtype are codes: they mean nothing by themselves. */
function isOpaque(dtype: DType): boolean {
  return !isFloatDType(dtype) && dtype !== "BOOL" && dtype !== "C64";
}

function isFloat8(dtype: DType): boolean {
  return dtype === "F8_E4M3" || dtype === "F8_E5M2";
}
