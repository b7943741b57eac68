/** A small model with biases and norms, and calibration data for some of its layers: for whole conversions. */

import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensorOf, writeModel } from "./model_files.ts";

/** Inputs of every layer. */
const COLS = 256;

/** Returns deterministic values, roughly normal, around `mean`. */
function values(count: number, seed: number, mean = 0): Float32Array {
  let state = (seed * 2654435761) >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Float32Array.from({ length: count }, () => mean + next() + next() + next() - 1.5);
}

/**
 * Writes `model.safetensors` and `calibration.safetensors` to `folder`; the latter has activations of
 * every second layer.
 *
 * @param rows of each layer.
 */
export function writeCalibratedModel(
  folder: string,
  { layers, rows }: { layers: number; rows: number },
): { input: string; calibration: string } {
  const tensors: Tensor[] = [], activations: Tensor[] = [];
  for (let i = 0; i < layers; i++) {
    const bf16 = Uint16Array.from(values(rows * COLS, 3 * i), (value) => f32ToBf16(value));
    tensors.push(
      tensorOf(`blocks.${i}.lin.weight`, "BF16", [rows, COLS], bf16),
      tensorOf(`blocks.${i}.lin.bias`, "F32", [rows], values(rows, 3 * i + 1)),
      tensorOf(`blocks.${i}.norm.scale`, "F32", [COLS], values(COLS, 3 * i + 2)),
    );
    if (i % 2 === 0) {
      const inputs = values(48 * COLS, 1000 + i, Math.sin(i));
      activations.push(tensorOf(`blocks.${i}.lin.activations`, "F32", [48, COLS], inputs));
    }
  }
  const input = join(folder, "model.safetensors");
  const calibration = join(folder, "calibration.safetensors");
  writeModel(input, tensors, { format: "pt" });
  writeModel(calibration, activations);
  return { input, calibration };
}
