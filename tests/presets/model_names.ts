/** Tensor lists made of names alone, for rules that look at names. */

import type { TensorInfo } from "../../src/core/tensor.ts";
import type { Detection, LayerRule } from "../../src/presets/preset.ts";

/** Returns a BF16 tensor of this name; 512 x 512 unless said otherwise. */
export function weight(name: string, shape: readonly number[] = [512, 512]): TensorInfo {
  return { name, dtype: "BF16", shape };
}

/** Returns BF16 tensors of these names, 512 x 512 for `*.weight`, 512 for all others. */
export function model(names: readonly string[]): TensorInfo[] {
  return names.map((name) => weight(name, name.endsWith(".weight") ? [512, 512] : [512]));
}

/** A detection of `family` behind no prefix, without stacks. */
export function detected(family: string | null, overrides: Partial<Detection> = {}): Detection {
  return {
    family,
    prefix: "",
    layout: family === null ? "unknown" : "native",
    evidence: [],
    stacks: [],
    ...overrides,
  };
}

/** Returns the names of the tensors that `rule` quantizes. */
export function quantizedBy(rule: LayerRule, tensors: readonly TensorInfo[]): string[] {
  return tensors.filter((tensor) => rule(tensor).action === "quantize").map(({ name }) => name);
}
