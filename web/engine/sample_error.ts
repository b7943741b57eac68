/** What error a conversion will have, from a few rows of a few layers: fractions of a second. */

import { convertWeight } from "../../src/library/convert_weight.ts";
import { decodeFloats } from "../../src/lora/decode_floats.ts";
import { isFloatDType } from "../../src/core/dtype.ts";
import type { ConvertOptions } from "../../src/plan/options.ts";
import type { Plan } from "../../src/plan/plan.ts";
import type { ModelSource } from "../../src/safetensors/model_source.ts";
import { readRange } from "../../src/safetensors/reader.ts";

/** Layers that are looked at, and rows of each: enough for blocks of 128. */
const LAYERS = 4;
const ROWS = 128;

/**
 * Returns the relative error of weights that `plan` will have, about; null if it cannot be told from a few
 * rows: methods that look at all of a layer, quantized sources, LoRAs.
 */
export function sampleError(
  model: ModelSource,
  plan: Plan,
  options: ConvertOptions,
): number | null {
  const isPlain = options.method === "auto" || options.method === "simple";
  if (!isPlain || options.merge !== null || options.smoothAlpha !== null) return null;
  const quantized = plan.tensors.filter(({ scheme, source }) =>
    scheme !== null && scheme.transform === undefined && scheme.scaling.kind !== "tensor" &&
    source.shape.length === 2 && isFloatDType(source.dtype) && source.shape[0]! >= ROWS
  );
  if (quantized.length === 0) return null;
  let error = 0, all = 0;
  for (let i = 0; i < Math.min(LAYERS, quantized.length); i++) {
    const { source } = quantized[Math.floor(i * quantized.length / LAYERS) % quantized.length]!;
    const [rows, cols] = source.shape as [number, number];
    const byteLength = source.byteLength / rows * ROWS;
    const bytes = readRange(model.paths[source.file]!, source.offsetBytes, byteLength);
    const data = decodeFloats({ ...source, shape: [ROWS, cols], data: bytes });
    const weight = { data, rows: ROWS, cols, name: source.name };
    let relativeError: number;
    try {
      ({ errors: { relativeError } } = convertWeight(weight, {}, {
        ...options,
        calibrationPath: null,
      }));
    } catch {
      return null; // a mode that needs more of the layer, or values that the conversion will refuse by name
    }
    const energy = data.reduce((sum, value) => sum + value * value, 0);
    error += relativeError ** 2 * energy;
    all += energy;
  }
  return all === 0 ? null : Math.sqrt(error / all);
}
