/**
 * Checkpoints that look like real ones to a quantizer: heavy-tailed weights, outlier input channels,
 * outlier rows; written as a stream, the same bytes for the same seed, fast.
 *
 * The statistics are chosen so that plain per-row rounding of the block weights comes out near 32 dB
 * SQNR, and rotation + rounding near 42 dB, as for the weights of real diffusion transformers. The gap
 * comes from `OUTLIER_CHANNELS` columns that are eight times as large, so that every row has a
 * maximum of about ten standard deviations; a rotation spreads them over their group.
 */

import { closeSync, openSync, writeSync } from "node:fs";
import { f32ToF16, type FloatDType } from "../../src/core/dtype.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";

/** A tensor to be made. `weight`: 2-D, as above. `norm`: around 1. `vector`: small, without outliers. */
export interface SyntheticTensor extends TensorInfo {
  readonly dtype: Extract<FloatDType, "F32" | "F16" | "BF16">;
  readonly role: "weight" | "norm" | "vector";
}

/** One of this many columns is an outlier channel, on average. */
const OUTLIER_CHANNELS = 512;
const OUTLIER_CHANNEL_FACTOR = 8;

/** One of this many rows is an outlier row. */
const OUTLIER_ROWS = 200;
const OUTLIER_ROW_FACTOR = 6;

/** One of this many weights comes from a wider distribution: the heavy tail. */
const TAIL_SHARE = 64;
const TAIL_FACTOR = 1.8;

/** Deviates drawn once and then picked by a hash of the position: drawing them is what takes time. */
const TABLE_BITS = 16;

/** Values written at a time. */
const CHUNK_ELEMENTS = 1 << 20;

/** A 32-bit generator (mulberry32): integer arithmetic only, so that all engines agree. */
class Random {
  #state: number;

  /** @param seed any integer. @param name gives the streams of one seed different values. */
  constructor(seed: number, name: string) {
    let hash = 0x811c9dc5 ^ seed;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    this.#state = hash | 0;
  }

  /** Returns an integer of 0..2^32-1. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** Returns a nearly normal value of variance 1: the sum of 12 uniform ones. */
  normal(): number {
    let sum = -6;
    for (let k = 0; k < 12; k++) sum += this.bits() * 2 ** -32;
    return sum;
  }
}

let table: Float32Array | undefined;

/** 2^TABLE_BITS deviates: a mixture of two normal distributions. The same for all models. */
function deviates(): Float32Array {
  if (table !== undefined) return table;
  const random = new Random(1, "deviates");
  table = Float32Array.from(
    { length: 1 << TABLE_BITS },
    (_, index) => random.normal() * (index % TAIL_SHARE === 0 ? TAIL_FACTOR : 1),
  );
  return table;
}

/** The values of one tensor, row after row. */
class Values {
  readonly #rows: Random;
  readonly #columns: Float32Array;
  readonly #isWeight: boolean;
  readonly #offset: number;

  constructor(tensor: SyntheticTensor, seed: number) {
    const { shape, role } = tensor;
    const cols = shape[shape.length - 1] ?? 1;
    const columns = new Random(seed, `${tensor.name} columns`);
    this.#rows = new Random(seed, tensor.name);
    this.#isWeight = role === "weight";
    this.#offset = role === "norm" ? 1 : 0;
    // As trained weights: smaller, the more of them add up in one output.
    const size = role === "weight" ? 0.6 / Math.sqrt(cols) : 0.02;
    this.#columns = new Float32Array(cols).fill(size);
    if (!this.#isWeight) return;
    for (let c = 0; c < cols; c++) {
      this.#columns[c] = size * (0.8 + 0.4 * columns.bits() * 2 ** -32);
    }
    const outliers = Math.max(1, Math.round(cols / OUTLIER_CHANNELS));
    for (let k = 0; k < outliers; k++) {
      this.#columns[columns.bits() % cols] = size * OUTLIER_CHANNEL_FACTOR;
    }
  }

  /** Fills the next row. */
  fill(row: Float32Array): void {
    const from = deviates();
    const columns = this.#columns;
    const offset = this.#offset;
    const isOutlier = this.#isWeight && this.#rows.bits() % OUTLIER_ROWS === 0;
    const factor = isOutlier ? OUTLIER_ROW_FACTOR : 1;
    let state = this.#rows.bits();
    for (let c = 0; c < row.length; c++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0; // its upper bits are the random ones
      row[c] = offset + factor * columns[c]! * from[state >>> (32 - TABLE_BITS)]!;
    }
  }
}

/** Puts `values` into `out` as `dtype`, little-endian; returns the bytes used. */
function encode(
  out: Uint8Array,
  values: Float32Array,
  dtype: SyntheticTensor["dtype"],
): Uint8Array {
  const count = values.length;
  if (dtype === "F32") {
    const bytes = out.subarray(0, 4 * count);
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, 4 * count));
    return bytes;
  }
  const halves = new Uint16Array(out.buffer, out.byteOffset, count);
  if (dtype === "F16") {
    for (let i = 0; i < count; i++) halves[i] = f32ToF16(values[i]!);
  } else {
    const bits = new Uint32Array(values.buffer, values.byteOffset, count);
    for (let i = 0; i < count; i++) {
      const b = bits[i]!; // no NaN here, so rounding needs no special case
      halves[i] = (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
    }
  }
  return out.subarray(0, 2 * count);
}

/** Yields the bytes of `tensor` in order, in pieces that are overwritten by the next. */
export function* syntheticBytes(tensor: SyntheticTensor, seed: number): Generator<Uint8Array> {
  const cols = tensor.shape[tensor.shape.length - 1] ?? 1;
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  if (count === 0) return;
  const source = new Values(tensor, seed);
  const rowsAtOnce = Math.max(1, Math.floor(CHUNK_ELEMENTS / cols));
  const values = new Float32Array(Math.min(rowsAtOnce * cols, count));
  const bytes = new Uint8Array(4 * values.length);
  for (let done = 0; done < count;) {
    const part = values.subarray(0, Math.min(values.length, count - done));
    for (let at = 0; at < part.length; at += cols) source.fill(part.subarray(at, at + cols));
    yield encode(bytes, part, tensor.dtype);
    done += part.length;
  }
}

/**
 * Writes a checkpoint of `tensors` and returns its size in bytes.
 *
 * @param path is overwritten.
 * @param options.seed same seed, same bytes.
 * @param options.metadata the `__metadata__` map.
 */
export function writeSyntheticModel(
  path: string,
  tensors: readonly SyntheticTensor[],
  options: { readonly seed?: number; readonly metadata?: Readonly<Record<string, string>> } = {},
): number {
  const { seed = 0, metadata = { format: "pt", title: "synthetic weights" } } = options;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const layout = layoutTensors(tensors, metadata);
  const fd = openSync(path, "w");
  try {
    const write = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
    };
    write(layout.header);
    for (const { name } of layout.entries) {
      for (const bytes of syntheticBytes(byName.get(name)!, seed)) write(bytes);
    }
  } finally {
    closeSync(fd);
  }
  return layout.totalBytes;
}
