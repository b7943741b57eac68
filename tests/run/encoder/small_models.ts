/** The small text encoders of `tests/vectors/encoders.json`, with the weights that its recipe makes up. */

import path from "node:path";
import { f32ToBf16, f32ToF16 } from "../../../src/core/dtype.ts";
import type { Tensor } from "../../../src/core/tensor.ts";
import { tensorOf, writeModel } from "../../support/model_files.ts";
import vectors from "../../vectors/encoders.json" with { type: "json" };

/** One model, and what ComfyUI's layers take in. */
export interface SmallModel {
  readonly title: string;
  readonly dtype: "F32" | "F16" | "BF16";
  /** Of its `config.json`; null: its size is known. */
  readonly config: unknown;
  readonly addsOne: boolean;
  readonly lengths: readonly number[];
  readonly tokens: readonly number[];
  /** Tokens whose inputs are known. */
  readonly rows: readonly number[];
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** F32 rows by layer, base64. */
  readonly inputs: Readonly<Record<string, { shape: readonly number[]; data: string }>>;
}

export const SMALL_MODELS = vectors.cases as unknown as readonly SmallModel[];

/** Integers in -128..127 that depend on the name and the index. */
export function hashed(name: string, count: number): Int32Array {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  return Int32Array.from({ length: count }, (_, i) => {
    let h = (Math.imul(i, 0x9e3779b1) + seed) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return ((h ^ (h >>> 16)) >>> 24) - 128;
  });
}

/** The values of a tensor, which every float dtype holds. */
function valuesOf(name: string, shape: readonly number[], addsOne: boolean): Float32Array {
  const x = Float32Array.from(hashed(name, shape.reduce((a, b) => a * b, 1)));
  if (name.endsWith("relative_attention_bias.weight")) return x.map((value) => value / 64);
  if (shape.length === 1 && name.endsWith("weight") && !addsOne) {
    return x.map((value) => 1 + Math.floor(value / 4) / 128);
  }
  const scale = name.includes("embed") || name.startsWith("shared") ? 128 : 512;
  return x.map((value) => value / scale);
}

/** Writes a model into `folder`, with its `config.json` if it needs one; returns its path. */
export function writeSmallModel(
  folder: string,
  { shapes, dtype, addsOne, config }: SmallModel,
  write: (path: string, text: string) => void,
): string {
  const file = path.join(folder, "model.safetensors");
  writeModel(
    file,
    Object.entries(shapes).map(([name, shape]): Tensor => {
      const values = valuesOf(name, shape, addsOne);
      if (dtype === "F32") return tensorOf(name, dtype, shape, values);
      const bits = Uint16Array.from(values, dtype === "F16" ? f32ToF16 : f32ToBf16);
      return tensorOf(name, dtype, shape, bits);
    }),
  );
  if (config !== null) write(path.join(folder, "config.json"), JSON.stringify(config));
  return file;
}

/** The rows that ComfyUI's layer takes in, one after the other. */
export function wantedInputs({ inputs }: SmallModel, layer: string): Float32Array {
  const { data } = inputs[layer]!;
  return new Float32Array(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
}
