/** Expert banks by their shape: 3-D weights `[experts, rows, columns]`. */

import { isFloatDType } from "./dtype.ts";
import type { TensorInfo } from "./tensor.ts";

/** Sizes below these are no matrices of experts but kernels, tables and tokens. */
const LEAST_EXPERTS = 2, LEAST_SIDE = 64;

/** Whether a tensor has the shape of float matrices, one per expert, under any name. */
export function hasBankShape({ dtype, shape }: Pick<TensorInfo, "dtype" | "shape">): boolean {
  const [experts = 0, rows = 0, cols = 0] = shape;
  return shape.length === 3 && isFloatDType(dtype) && experts >= LEAST_EXPERTS &&
    rows >= LEAST_SIDE && cols >= LEAST_SIDE;
}
