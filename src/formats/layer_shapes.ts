/** Shapes of weights and companions, as the formats compare them. */

import { isFloatDType } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ScaleDType, SourceScale } from "./matrix_source.ts";

/** A matrix by its size. */
export interface MatrixSize {
  readonly rows: number;
  readonly cols: number;
}

/** Whether both are the same sizes in the same order. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Whether a tensor of this shape holds one value. */
export function isOneValue(shape: readonly number[]): boolean {
  return shape.every((size) => size === 1);
}

/** How many elements a shape has. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** `[..., N, K]` as a matrix of K columns; of other ranks than 2 and more, one row. */
export function codesShape(shape: readonly number[]): MatrixSize {
  if (shape.length < 2) return { rows: 1, cols: elementsOf(shape) };
  return { rows: elementsOf(shape.slice(0, -1)), cols: shape[shape.length - 1]! };
}

/** A float tensor as a matrix: itself, a bank `[E, N, K]` as E * N rows, other ranks as one row. */
export function rowsOf(shape: readonly number[]): MatrixSize {
  return shape.length === 2 || shape.length === 3
    ? codesShape(shape)
    : { rows: 1, cols: elementsOf(shape) };
}

/** `F32 [3, 4]`. */
export function shown({ dtype, shape }: Pick<SourceTensor, "dtype" | "shape">): string {
  return `${dtype} [${shape.join(", ")}]`;
}

/** `size` rounded up to a multiple of `unit`. */
export function roundUp(size: number, unit: number): number {
  return Math.ceil(size / unit) * unit;
}

/** Place and dtype of scales; null if the dtype holds none. `U8` may stand for E8M0. */
export function scalePlace(
  { file, offsetBytes, dtype }: SourceTensor,
  { bytesAre }: { bytesAre?: ScaleDType } = {},
): Pick<SourceScale, "file" | "offsetBytes" | "dtype"> | null {
  if (isFloatDType(dtype) || dtype === "F8_E8M0") return { file, offsetBytes, dtype };
  return dtype === "U8" && bytesAre !== undefined ? { file, offsetBytes, dtype: bytesAre } : null;
}
