/** A small model with calibration data, and command lines that take every way through the program. */

import { f32ToBf16 } from "../../src/core/dtype.ts";
import { tensorOf, writeModel } from "./model_files.ts";

function generator(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
}

/** Writes names like Flux's and weights with outliers, the same in every run. */
export function writeSmallModel(path: string): void {
  const random = generator(7);
  const weight = (name: string, rows: number, cols: number) =>
    tensorOf(
      name,
      "BF16",
      [rows, cols],
      Uint16Array.from({ length: rows * cols }, (_, i) =>
        f32ToBf16(random() * (i % 61 === 0 ? 0.8 : 0.1))),
    );
  writeModel(path, [
    weight("double_blocks.0.img_attn.qkv.weight", 256, 512),
    weight("double_blocks.0.txt_mlp.0.weight", 320, 256),
    weight("img_in.weight", 64, 64),
  ]);
}

/** Writes activations of both layers, correlated. */
export function writeCalibration(path: string): void {
  const random = generator(3);
  const rows = (name: string, cols: number) => {
    const values = new Float32Array(96 * cols);
    for (let t = 0; t < 96; t++) {
      const shared = random();
      for (let k = 0; k < cols; k++) values[t * cols + k] = shared + random() * (1 + k % 7);
    }
    return tensorOf(`${name}.activations`, "F32", [96, cols], values);
  };
  writeModel(path, [
    rows("double_blocks.0.img_attn.qkv", 512),
    rows("double_blocks.0.txt_mlp.0", 256),
  ]);
}

/** Flags for every method; `data` is the path of what {@link writeCalibration} wrote. */
export function everyMethod(data: string): readonly (readonly string[])[] {
  const calibrated = ["--calibration-data", data, "--manual_seed", "1"];
  const learned = ["--num_iter", "8", "--manual_seed", "1"];
  return [
    [],
    ["--simple", "--scaling_mode", "tensor"],
    ["--simple", "--scaling_mode", "block", "--block_size", "64"],
    ["--fp16"],
    calibrated,
    [...calibrated, "--convrot", "off"],
    ["--optimizer", "quip", "--convrot", "256", ...calibrated],
    ["--optimizer", "quip", "--quip-store-transformed", ...calibrated],
    ["--optimizer", "original", ...learned],
    ["--optimizer", "radam", "--scaling_mode", "block", "--block_size", "64", ...learned],
  ];
}
