/** A small layer with outliers in weights and inputs, and what its codes in a file do to its outputs. */

import { readModel } from "./model_files.ts";

export const ROWS = 128;
export const COLS = 256;
export const TOKENS = 512;

/** Uniform deviates in -1..1 by a seeded LCG. */
function deviates(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
}

/** Inputs of low rank plus noise, some channels 20 times louder: `[count, COLS]`. */
export function activations(count: number, seed: number): Float32Array {
  const basis = Float32Array.from({ length: 24 * COLS }, deviates(99));
  const next = deviates(seed);
  const x = new Float32Array(count * COLS);
  for (let t = 0; t < count; t++) {
    const mix = Array.from({ length: 24 }, next);
    for (let k = 0; k < COLS; k++) {
      let value = 0.4 * next();
      for (let r = 0; r < 24; r++) value += mix[r]! * basis[r * COLS + k]! / 3;
      x[t * COLS + k] = value * (k % 41 === 0 ? 20 : 1);
    }
  }
  return x;
}

/** Heavy-tailed weights, the loud channels 8 times as large: `[ROWS, COLS]`. */
export function weights(): Float32Array {
  const next = deviates(7);
  return Float32Array.from({ length: ROWS * COLS }, (_, i) => {
    const u = next();
    const heavy = 0.03 * u / Math.max(0.05, 1 - Math.abs(u));
    return heavy * (i % COLS % 41 === 0 ? 8 : 1);
  });
}

/** Relative output error of the codes in `path` on inputs `x`, in original space. */
export function outputError(path: string, w: Float32Array, x: Float32Array): number {
  const model = readModel(path);
  const codes = new Int8Array(model.get("blocks.0.lin.weight")!.data.slice().buffer);
  const scaleTensor = model.get("blocks.0.lin.weight_scale")!;
  const scales = new Float32Array(scaleTensor.data.slice().buffer);
  const [down = 1, across = 1] = scaleTensor.shape;
  let error = 0;
  let signal = 0;
  for (let t = 0; t < x.length / COLS; t++) {
    for (let r = 0; r < ROWS; r++) {
      let y = 0;
      let e = 0;
      for (let k = 0; k < COLS; k++) {
        const value = w[r * COLS + k]!;
        const group = Math.floor(r * down / ROWS) * across + Math.floor(k * across / COLS);
        y += x[t * COLS + k]! * value;
        e += x[t * COLS + k]! * (value - codes[r * COLS + k]! * scales[group]!);
      }
      error += e * e;
      signal += y * y;
    }
  }
  return Math.sqrt(error / signal);
}
