/**
 * Expert banks: 3-D weights `[experts, rows, columns]` that hold the same layer of every expert. Stock
 * ComfyUI loads them quantized in the families that say so (`Family.banks`); other 3-D weights are read raw.
 */

import { isFloatDType } from "../core/dtype.ts";
import { elementCount } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isComponent } from "./names.ts";
import { compilePatterns } from "./pattern.ts";
import type { Detection, Family } from "./preset.ts";

/** Sizes below these are no matrices of experts but kernels, tables and tokens. */
const LEAST_EXPERTS = 2, LEAST_SIDE = 64;

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
    shape.length === 3 && name.endsWith(".weight") && name.startsWith(prefix) &&
    !isComponent(name) && elementCount(shape) !== 0 && match(name.slice(prefix.length)) !== null;
}

/** Whether a tensor looks like an expert bank: float matrices, one per expert, under any name. */
export function looksLikeBank({ name, dtype, shape }: TensorInfo): boolean {
  const [experts = 0, rows = 0, cols = 0] = shape;
  return shape.length === 3 && isFloatDType(dtype) && !isComponent(name) &&
    experts >= LEAST_EXPERTS && rows >= LEAST_SIDE && cols >= LEAST_SIDE;
}
