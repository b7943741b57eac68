/** The error that a conversion will have, from a few rows of a few layers: fractions of a second. */

import { isFloatDType } from "../../src/core/dtype.ts";
import type { SourceTensor } from "../../src/core/tensor.ts";
import { quantizeInMemory } from "../../src/library/run_in_memory.ts";
import { decodeFloats } from "../../src/lora/decode_floats.ts";
import type { ConvertOptions } from "../../src/plan/options.ts";
import { makePlan, type Plan } from "../../src/plan/plan.ts";
import { makeTasks } from "../../src/run/make_tasks.ts";
import type { ModelSource } from "../../src/safetensors/model_source.ts";
import { readRange } from "../../src/safetensors/reader.ts";

/** Layers that are looked at, and rows of each: enough for blocks of 128. */
const LAYERS = 8;
const ROWS = 128;

/**
 * Returns the relative error of weights that `plan` will have, about; null if a few rows
 * cannot show it: methods that look at all of a layer, quantized sources, LoRAs.
 */
export function sampleError(
  model: ModelSource,
  plan: Plan,
  options: ConvertOptions,
): number | null {
  const isPlain = options.method === "auto" || options.method === "simple";
  if (!isPlain || options.merge !== null || options.smoothAlpha !== null) return null;
  const samples = samplesOf(plan);
  if (samples.length === 0) return null;
  const files = samples.map(({ source, byteLength }) =>
    readRange(model.paths[source.file]!, source.offsetBytes, byteLength)
  );
  const tensors = samples.map(({ source, byteLength }, file): SourceTensor => ({
    ...source,
    shape: [ROWS, source.shape[1]!],
    file,
    offsetBytes: 0,
    byteLength,
  }));
  const sample = makePlan({
    model: {
      ...model,
      paths: tensors.map(({ name }) => name),
      tensors,
      inputBytes: files.reduce((sum, { length }) => sum + length, 0),
    },
    detection: plan.detection,
    rule: () => ({ action: "quantize", reason: "it is a sample" }),
    options,
  });
  const { outputBytes } = sample.totals;
  let error = 0, all = 0;
  for (const task of makeTasks(sample).tasks) {
    if (task.kind !== "quantize") continue;
    const tensor = tensors.find(({ name }) => name === task.name)!;
    const values = decodeFloats({ ...tensor, data: files[tensor.file]! });
    const energy = values.reduce((sum, value) => sum + value * value, 0);
    if (!Number.isFinite(energy)) return null; // the conversion will say which value it is
    const { errors } = quantizeInMemory(task, { files, outputBytes });
    // Each stands for all rows of its layer.
    const share = samples[tensor.file]!.source.shape[0]! / ROWS;
    error += errors.relativeError ** 2 * energy * share;
    all += energy * share;
  }
  return all === 0 ? null : Math.sqrt(error / all);
}

/** Returns layers from all over the model, and the bytes of their first rows. */
function samplesOf(
  plan: Plan,
): { readonly source: SourceTensor; readonly byteLength: number }[] {
  const fitting = plan.tensors.filter(({ scheme, source: { shape, dtype } }) =>
    scheme !== null && scheme.transform === undefined && scheme.scaling.kind !== "tensor" &&
    shape.length === 2 && shape[0]! >= ROWS && isFloatDType(dtype)
  );
  const places = Array.from(
    { length: LAYERS },
    (_, i) => Math.floor(i * fitting.length / LAYERS),
  );
  return [...new Set(places)].filter((place) => place < fitting.length).map((place) => {
    const { source } = fitting[place]!;
    return { source, byteLength: source.byteLength / source.shape[0]! * ROWS };
  });
}
