/** A small model with biases and norms, and calibration data for some of its layers: for whole conversions. */

import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensorOf, writeModel } from "./model_files.ts";

/** Inputs of every layer. */
const COLS = 256;

/** A prime, so that no two layers get the same rows. */
const POOL_LENGTH = 65_521;

/** Deterministic values, roughly normal. */
const POOL = (() => {
  let state = 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Float32Array.from({ length: POOL_LENGTH }, () => next() + next() + next() - 1.5);
})();

const BF16_POOL = Uint16Array.from(POOL, (value) => f32ToBf16(value));

/** Fills `values` from a pool, at a place of its own for every seed. */
function fill<T extends Float32Array | Uint16Array>(values: T, pool: T, seed: number): T {
  let at = (seed * 7919) % POOL_LENGTH;
  for (let done = 0; done < values.length;) {
    const part = pool.subarray(at, at + values.length - done);
    values.set(part, done);
    done += part.length;
    at = 0;
  }
  return values;
}

function values(count: number, seed: number, mean = 0): Float32Array {
  const filled = fill(new Float32Array(count), POOL, seed);
  return mean === 0 ? filled : filled.map((value) => value + mean);
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
    const bf16 = fill(new Uint16Array(rows * COLS), BF16_POOL, 3 * i);
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
