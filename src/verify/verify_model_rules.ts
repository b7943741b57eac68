/** The rules of the stock ComfyUI loader that concern a file as a whole: which models have a quantized path. */

import type { SourceTensor } from "../core/tensor.ts";
import { detect } from "../presets/detect.ts";
import type { Detection } from "../presets/preset.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { type QuantizedLayer, readQuantizationMetadata } from "../formats/quant_layers.ts";
import type { Problem } from "../formats/problem.ts";

/** Why a part of a model must not be quantized, by the names of its layers. */
const UNSUPPORTED_PARTS: readonly { rule: string; names: RegExp; what: string; effect: string }[] =
  [
    {
      rule: "clip-quantized",
      names: /(^|[._])text_model\.encoder\.layers\.|(^|\.)clip_[lg]\.|transformer\.resblocks\./,
      what: "CLIP-L and CLIP-G text encoders have no quantized path",
      effect: "loads the raw codes: noise",
    },
    {
      rule: "vae-quantized",
      names: /(^|\.)(first_stage_model|vae)\./,
      what: "VAEs have no quantized path",
      effect: "loads the raw codes: black images or a crash",
    },
  ];

/** Names of which one alone shows a file to be a VAE, in the spellings of CompVis, diffusers and Wan. */
const VAE_FILES = /^(decoder\.(conv_in|conv1|up\.0|up_blocks\.0|mid)\b|(post_)?quant_conv\.)/;

/** Returns the problems of the file as a whole. */
export function modelProblems(source: ModelSource, layers: readonly QuantizedLayer[]): Problem[] {
  const problems: Problem[] = [];
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
  const whole = wholeFileProblem(source.tensors, detect(source.tensors));
  if (whole !== null) return [...problems, whole];
  for (const { layer, weightName } of weights) {
    const part = UNSUPPORTED_PARTS.find(({ names }) => names.test(weightName!));
    if (part === undefined) continue;
    const { rule, effect, what } = part;
    problems.push({ layer, rule, effect, severity: "error", detail: what });
  }
  return problems;
}

/** Why no quantized file of this kind works; null where nothing speaks against it. */
function wholeFileProblem(tensors: readonly SourceTensor[], detection: Detection): Problem | null {
  const error = (rule: string, effect: string, detail: string): Problem => ({
    layer: "",
    rule,
    effect,
    severity: "error",
    detail,
  });
  const evidence = detection.evidence[0] ?? "";
  if (detection.family === "te_clip_l_g") {
    const { rule, effect, what } = UNSUPPORTED_PARTS[0]!;
    return error(rule, effect, `${what}; recognised by ${evidence}`);
  }
  if (detection.layout === "lora") {
    return error(
      "lora-quantized",
      "applies the raw codes as if they were weights: garbage",
      `LoRA tensors are read as they are; recognised by ${evidence}`,
    );
  }
  if (detection.layout === "diffusers") {
    return error(
      "diffusers-quantized",
      "renames the weights but not their scales and markers: does not load",
      `quantized layers need the names of the single-file checkpoint; recognised by ${evidence}`,
    );
  }
  if (detection.family !== null) return null;
  if (detection.evidence.length > 0) { // of unknown models, only ControlNets have evidence
    return error(
      "controlnet-quantized",
      "loads the raw codes: noise or a crash",
      `ControlNets have no quantized path; recognised by ${evidence}`,
    );
  }
  const vae = tensors.find(({ name }) => VAE_FILES.test(name));
  if (vae === undefined) return null;
  const { rule, effect, what } = UNSUPPORTED_PARTS[1]!;
  return error(rule, effect, `${what}; recognised by ${vae.name}`);
}
