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

/** Tensors in an order: an array, or a table that makes each object when it is asked for. */
export interface Tensors<Tensor extends TensorInfo = TensorInfo> extends Iterable<Tensor> {
  /** How many there are. */
  readonly length: number;
  /** The one in a place, from 0; undefined if there is none. */
  at(place: number): Tensor | undefined;
  /** What is made of each. */
  map<Made>(make: (tensor: Tensor, place: number) => Made): Made[];
  /** What is made of each, lists joined. */
  flatMap<Made>(make: (tensor: Tensor, place: number) => Made | readonly Made[]): Made[];
  /** Those that pass. */
  filter(isWanted: (tensor: Tensor) => boolean): Tensor[];
  /** The first that passes. */
  find(isWanted: (tensor: Tensor) => boolean): Tensor | undefined;
  /** Whether one passes. */
  some(isWanted: (tensor: Tensor) => boolean): boolean;
  /** All added to `start`. */
  reduce<Sum>(add: (sum: Sum, tensor: Tensor) => Sum, start: Sum): Sum;
}

/** A tensor with its bytes, little-endian, row-major. */
export interface Tensor extends TensorInfo {
  /** Its bytes, little-endian, row-major. */
  readonly data: Uint8Array;
}
