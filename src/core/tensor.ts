/** A tensor without its values. */

import type { DType } from "./dtype.ts";

/** Name, dtype and shape of a tensor: all that planning needs. */
export interface TensorInfo {
  /** Name in the file. */
  readonly name: string;
  /** Type of its elements. */
  readonly dtype: DType;
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
}

/** A tensor in a file on disk. */
export interface SourceTensor extends TensorInfo {
  /** Index into the `paths` of the model it belongs to. */
  readonly file: number;
  /** Absolute offset of its first byte in that file. */
  readonly offsetBytes: number;
  /** Its size in bytes. */
  readonly byteLength: number;
}

/** A tensor with its bytes, little-endian, row-major. */
export interface Tensor extends TensorInfo {
  /** Its bytes, little-endian, row-major. */
  readonly data: Uint8Array;
}
