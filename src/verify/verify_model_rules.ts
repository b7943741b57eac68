/** The rules of the stock ComfyUI loader that concern a file as a whole: which models have a quantized path. */

import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { bankMatcher } from "../presets/banks.ts";
import { detect } from "../presets/detect.ts";
import { familyById } from "../presets/registry.ts";
import { type Unusable, unusableFile, unusableFiles, unusablePart } from "../presets/unusable.ts";
import { nameOfInput } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { readQuantizationMetadata } from "../formats/marker_reader.ts";
import type { QuantizedLayer } from "../formats/quant_layers.ts";
import type { Problem } from "../formats/problem.ts";
import { tensorsByName } from "../formats/stored_matrix.ts";

/** Returns the problems of the file as a whole. */
export function modelProblems(source: ModelSource, layers: readonly QuantizedLayer[]): Problem[] {
  const problems = filesProblems(source);
  const metadata = readQuantizationMetadata(source.metadata).problem;
  if (metadata !== null) {
    problems.push({
      layer: "",
      rule: "metadata-malformed",
      effect: "fails at load: the header metadata cannot be read",
      severity: "error",
      detail: metadata,
    });
  }
  const weights = layers.filter(({ weightName }) => weightName !== null);
  if (weights.length === 0) return problems;
  const detection = detect(source.tensors);
  const whole = unusableFile(source.tensors, detection);
  if (whole !== null) return [...problems, problemOf(whole, "")];
  const isBank = detection.family === null
    ? null
    : bankMatcher(familyById(detection.family), detection);
  const tensors = tensorsByName(source);
  for (const { layer, weightName, convrotGroupSize } of weights) {
    problems.push(...bankProblems(tensors.get(weightName!)!, { layer, convrotGroupSize }, isBank));
    const found = unusablePart(weightName!);
    if (found !== null) problems.push(problemOf(found, layer));
  }
  return problems;
}

/** Use of codes `[E, N, K]`: a bank that the family's loader knows, or a tensor that is read raw. */
function bankProblems(
  tensor: SourceTensor,
  { layer, convrotGroupSize }: Pick<QuantizedLayer, "layer" | "convrotGroupSize">,
  isBank: ((tensor: TensorInfo) => boolean) | null,
): Problem[] {
  if (tensor.shape.length !== 3) return [];
  if (isBank !== null && !isBank(tensor)) {
    const unusable = {
      rule: "bank-read-raw",
      what: `${tensor.name} is 3-D, and the model reads it itself`,
      effect: "loads the raw codes as if they were weights: garbage",
    };
    return [problemOf(unusable, layer)];
  }
  if (convrotGroupSize === null) return [];
  const rotated = {
    rule: "bank-rotated",
    what: "its experts are rotated, which needs a ComfyUI later than 0.33.0 (21 August 2026)",
    effect: "0.33.0 drops the rotation and computes garbage, later trees compute it right",
    hint: "convert with --convrot off for plain rows, which are right in both",
  };
  return [{ ...problemOf(rotated, layer), severity: "warning" }];
}

/** A model in several files works once it is one: a warning. A shard alone lacks tensors. */
function filesProblems(source: ModelSource): Problem[] {
  const found = unusableFiles(source.paths.map(nameOfInput));
  if (found === null) return [];
  return [{
    ...problemOf(found, ""),
    severity: found.rule === "lone-shard" ? "error" : "warning",
  }];
}

function problemOf({ rule, what, effect, hint }: Unusable, layer: string): Problem {
  return {
    layer,
    rule,
    effect,
    severity: "error",
    detail: what,
    ...(hint === undefined ? {} : { hint }),
  };
}
