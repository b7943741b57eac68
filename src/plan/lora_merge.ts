/**
 * The LoRAs of a conversion: planned from headers, their values read when tasks are made, as f32 in
 * shared memory, so that every worker has them and they are there once.
 */

import { bf16ToF32, f16ToF32 } from "../core/dtype.ts";
import type { SourceTensor, TensorInfo, Tensors } from "../core/tensor.ts";
import { decodeFloats } from "../lora/decode_floats.ts";
import type { DeltaForm, LoraDelta } from "../lora/lora_delta.ts";
import { type LoraReport, type MergeStep, planMerge } from "../lora/plan_merge.ts";
import { scalingOf } from "../lora/lora_module.ts";
import { type DeltaSource, prepareDelta, readAlpha } from "../lora/prepare_delta.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { withAdapterConfig } from "../safetensors/adapter_config.ts";
import { openModel, TensorReader } from "../safetensors/reader.ts";
import type { LoraMergeOptions } from "./options.ts";

/** The LoRAs of a conversion. */
export interface LoraMerge {
  /** Names of the tensors that change. */
  readonly names: ReadonlySet<string>;
  readonly reports: readonly LoraReport[];
  /** Parts of the LoRAs without a place in the model. */
  readonly notes: readonly string[];
  /** Returns the changes of a tensor, in order; reads them the first time. */
  deltasOf(name: string): readonly LoraDelta[];
}

/**
 * Opens and plans the LoRAs; only headers are read.
 *
 * @param tensors the model's tensors; quantized ones as what they dequantize to.
 * @throws as `openModel` and `planMerge`.
 */
export function openLoraMerge(
  tensors: Tensors,
  options: LoraMergeOptions,
): LoraMerge {
  const files = options.paths.map((path) => new LoraValues(openModel(path)));
  const headers = files.map(({ model }) => ({
    ...model,
    metadata: withAdapterConfig(model.paths[0]!, model.metadata),
  }));
  const plan = planMerge(headers, tensors, options);
  // At strength 0 nothing changes: such tensors are copied like all others.
  const steps = new Map<string, readonly MergeStep[]>();
  for (const [name, list] of plan.steps) {
    const counting = list.filter(({ strength }) => strength !== 0);
    if (counting.length > 0) steps.set(name, counting);
  }
  const loaded = new Map<string, readonly LoraDelta[]>();
  return {
    names: new Set(steps.keys()),
    reports: plan.reports,
    notes: [...plan.reports.flatMap(noteOf), ...factorNotes(files, steps)],
    deltasOf: (name) => {
      const known = loaded.get(name);
      if (known !== undefined) return known;
      const deltas = (steps.get(name) ?? []).map(({ file, target, strength }) =>
        shared(prepareDelta(target, files[file]!, { strength }))
      );
      loaded.set(name, deltas);
      return deltas;
    },
  };
}

/** Bytes of shared memory that changes take; arrays in the same memory count once. */
export function deltaBytes(deltas: Iterable<LoraDelta>): number {
  const buffers = new Set<ArrayBufferLike>();
  for (const { form, magnitude } of deltas) {
    for (const value of [...Object.values(form), magnitude]) {
      if (value instanceof Float32Array) buffers.add(value.buffer);
    }
  }
  return [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/**
 * Factors of a change above this are no trainer's: alpha and rank are mostly equal, and within 16 of each
 * other.
 */
const LARGEST_FACTOR = 100;

/** Warns of LoRAs whose factors, alpha / rank times the strength, would drown the model. */
function factorNotes(
  files: readonly LoraValues[],
  steps: ReadonlyMap<string, readonly MergeStep[]>,
): string[] {
  const worst = new Map<number, { layers: number; factor: number; key: string }>();
  for (const { file, target: { module }, strength } of [...steps.values()].flat()) {
    const factor = Math.abs(scalingOf(module, readAlpha(module, files[file]!)) * strength);
    if (factor <= LARGEST_FACTOR) continue;
    const { layers = 0, ...before } = worst.get(file) ?? { factor: 0, key: "" };
    const largest = factor > before.factor ? { factor, key: module.key } : before;
    worst.set(file, { ...largest, layers: layers + 1 });
  }
  return [...worst].map(([file, { layers, factor, key }]) =>
    `LoRA ${JSON.stringify(files[file]!.path)}: ${layers} of its changes count ` +
    `${factor.toPrecision(3)} times or less, most of all ${key} (alpha / rank, times the scale); ` +
    "factors above 100 drown the model: its alpha may be damaged"
  );
}

function noteOf({ path, modules, resolved, unmatched, mismatched }: LoraReport): string[] {
  const lines = [
    ...mismatched.map(({ key, shape, weightName, wanted }) =>
      `${key}: its change is ${shape.join(" x ")}, ${weightName} is ${wanted.join(" x ")}`
    ),
    ...unmatched.map(({ key, reason }) => `${key}: ${reason}`),
  ];
  if (lines.length === 0) return [];
  return [
    `LoRA ${JSON.stringify(path)}: ${resolved} of ${modules} layers are merged; ` +
    `without a place in the model (--strict makes it an error): ${lines.join("; ")}`,
  ];
}

/** The values of one LoRA file, each tensor read once. */
class LoraValues implements DeltaSource {
  readonly model: ModelSource;
  readonly path: string;
  readonly #tensors: ReadonlyMap<string, SourceTensor>;
  readonly #values = new Map<string, Float32Array>();

  constructor(model: ModelSource) {
    this.model = model;
    this.path = model.path;
    this.#tensors = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  }

  read({ name }: TensorInfo): Float32Array {
    const known = this.#values.get(name);
    if (known !== undefined) return known;
    const tensor = this.#tensors.get(name)!;
    using reader = new TensorReader(this.model);
    const values = sharedFloats(tensor, reader.read(tensor));
    this.#values.set(name, values);
    return values;
  }
}

function sharedArray(count: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(4 * count));
}

/** Decodes the bytes of a tensor, which begin their buffer, into shared memory. */
function sharedFloats(tensor: TensorInfo, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const { dtype } = tensor;
  if (dtype === "F32") {
    const values = sharedArray(bytes.length / 4);
    values.set(new Float32Array(bytes.buffer));
    return values;
  }
  if (dtype === "F16" || dtype === "BF16") {
    const halves = new Uint16Array(bytes.buffer);
    const values = sharedArray(halves.length);
    const decode = dtype === "F16" ? f16ToF32 : bf16ToF32;
    for (let i = 0; i < halves.length; i++) values[i] = decode(halves[i]!);
    return values;
  }
  return toShared(decodeFloats({ ...tensor, data: bytes }));
}

function toShared(values: Float32Array): Float32Array {
  if (values.buffer instanceof SharedArrayBuffer) return values;
  const copy = sharedArray(values.length);
  copy.set(values);
  return copy;
}

/** Puts the arrays of a change that were computed (folded factors, swapped halves) into shared memory. */
function shared(delta: LoraDelta): LoraDelta {
  const form = Object.fromEntries(
    Object.entries(delta.form).map(([key, value]) => [
      key,
      value instanceof Float32Array ? toShared(value) : value,
    ]),
  ) as unknown as DeltaForm;
  return { ...delta, form, magnitude: delta.magnitude === null ? null : toShared(delta.magnitude) };
}
