/** The rules of the stock ComfyUI loader that concern a file as a whole: which models have a quantized path. */

import { detect } from "../presets/detect.ts";
import { type Unusable, unusableFile, unusableFiles, unusablePart } from "../presets/unusable.ts";
import { nameOfInput } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { readQuantizationMetadata } from "../formats/marker_reader.ts";
import type { QuantizedLayer } from "../formats/quant_layers.ts";
import type { Problem } from "../formats/problem.ts";

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
  const whole = unusableFile(source.tensors, detect(source.tensors));
  if (whole !== null) return [...problems, problemOf(whole, "")];
  for (const { layer, weightName } of weights) {
    const found = unusablePart(weightName!);
    if (found !== null) problems.push(problemOf(found, layer));
  }
  return problems;
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
