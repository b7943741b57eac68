/** Layers in the layouts of others, made here, and what they are restored to. */

import { join } from "node:path";
import { f8e4m3ToF32 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { WORKER_URL } from "../support/encode.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

/** Restores a file with these tensors as F32. */
export async function restore(
  tensors: readonly Tensor[],
  metadata: Record<string, string> | null = null,
): Promise<Map<string, Tensor>> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, tensors, metadata);
  await dequantizeModel(openModel(input), { output, dtype: "F32", pool });
  return readModel(output);
}

/** The values of an F32 tensor. */
export function f32({ data }: Tensor): Float32Array {
  return new Float32Array(data.slice().buffer);
}

/** Returns the E4M3 code nearest to `value`. */
export function e4m3(value: number): number {
  let best = 0, least = Infinity;
  for (let code = 0; code < 127; code++) {
    const off = Math.abs(Math.abs(value) - f8e4m3ToF32(code));
    if (off < least) [best, least] = [code, off];
  }
  return value < 0 ? best | 0x80 : best;
}

/** FP8 codes `[rows, cols]` of a matrix under scales of blocks, and what they stand for. */
export function float8Blocks(
  values: Float32Array,
  { rows, cols, blockRows, blockCols, power = false }: {
    rows: number;
    cols: number;
    blockRows: number;
    blockCols: number;
    /** Scales are powers of 2. */
    power?: boolean;
  },
): { codes: Uint8Array; scales: Float32Array; restored: Float32Array } {
  const across = Math.ceil(cols / blockCols), down = Math.ceil(rows / blockRows);
  const scales = new Float32Array(across * down);
  const groupOf = (i: number) =>
    Math.floor(Math.floor(i / cols) / blockRows) * across + Math.floor((i % cols) / blockCols);
  values.forEach((value, i) => {
    scales[groupOf(i)] = Math.max(scales[groupOf(i)]!, Math.abs(value) / 448);
  });
  if (power) scales.forEach((scale, i) => scales[i] = 2 ** Math.ceil(Math.log2(scale)));
  const codes = Uint8Array.from(values, (value, i) => e4m3(value / scales[groupOf(i)]!));
  const restored = Float32Array.from(codes, (code, i) => f8e4m3ToF32(code) * scales[groupOf(i)]!);
  return { codes, scales, restored };
}

/** An F32 tensor. */
export function floats(name: string, shape: number[], values: Float32Array): Tensor {
  return tensorOf(name, "F32", shape, values);
}
