/** Reasons not to convert a model, and things to know of its plan: sentences. Pure. */

import type { Tensors } from "../core/tensor.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Plan } from "../plan/plan.ts";
import type { Detection } from "../presets/preset.ts";
import { refusalOf } from "../presets/registry.ts";
import {
  rawModule,
  type Unusable,
  unusableFile,
  unusableFiles,
  unusablePart,
} from "../presets/unusable.ts";
import { nameOfInput } from "../remote/input_path.ts";
import type { ModelSource } from "../safetensors/model_source.ts";

/** Why converting this file would not give a file that works; null if nothing speaks against it. */
export function refusalFor(
  model: ModelSource,
  detection: Detection,
  options: ConvertOptions,
): string | null {
  const { preset } = options;
  const refused = refusalOf(detection, preset);
  if (refused !== null) return refused;
  const loraAsked = options.lora || (preset.kind === "documented" && preset.names.includes("lora"));
  if (detection.layout === "lora" && !loraAsked) {
    return `it is a LoRA (${
      detection.evidence[0] ?? "by its names"
    }); \`--lora\` quantizes the LoRA itself`;
  }
  if (detection.layout === "diffusers" && preset.kind === "auto") {
    return "it has the diffusers layout, whose quantized form stock ComfyUI does not load; use the " +
      "single-file checkpoint of the model, or `--preset none` to convert it all the same";
  }
  if (model.tensors.length === 0) return "it holds no tensors";
  return null;
}

/** Why the output would be the input once more; null if it is not, or was asked for. */
export function copyOf(
  { totals }: Plan,
  { merge, allowCopy, layers }: ConvertOptions,
  unusable: Unusable | null,
): string | null {
  if (totals.quantize > 0 || totals.cast > 0 || merge !== null || allowCopy) return null;
  const chosen = layers?.chosen;
  if (chosen !== undefined && chosen.size > 0) {
    return `nothing in it would be quantized: what was asked for (\`--fit\`, \`--max-error\`) keeps ` +
      `all ${chosen.size} layers as they are; ask for a smaller size or a larger error, or use the ` +
      "file as it is (`--allow-copy` writes the copy)";
  }
  if (unusable !== null) {
    return `nothing in it would be quantized: ${unusable.what}; use it as it is`;
  }
  return "nothing in it would be quantized: `--dry-run` gives the reason for each tensor, " +
    "`--allow-copy` writes the copy";
}

/** Says what FP8 weights of the source mean for the output. */
export function fp8Notes({ tensors }: Plan): string[] {
  const quantized = tensors.filter(({ action }) => action === "quantize");
  const fp8 = quantized.filter(({ source }) => source.dtype.startsWith("F8_"));
  if (fp8.length === 0) return [];
  const which = fp8.length === quantized.length
    ? "the weights of the source are FP8"
    : `${fp8.length} of ${quantized.length} weights of the source are FP8`;
  return [
    `${which}, which takes 8 bits already: INT8 does not make them smaller, and the loss of FP8 stays; ` +
    "convert the BF16 or F16 original if you have it",
  ];
}

/** The kept F8 tensors that a merge makes BF16. */
export function widenedNotes({ tensors }: Plan, merged: ReadonlySet<string> = new Set()): string[] {
  const widened = tensors.filter(({ source, action }) =>
    action === "cast" && source.dtype.startsWith("F8") && merged.has(source.name)
  );
  if (widened.length === 0) return [];
  const more = widened.length === 1 ? "" : ` and ${widened.length - 1} more`;
  return [
    `LoRAs are merged into kept F8 tensors, which become BF16: ${widened[0]!.source.name}${more}`,
  ];
}

/** Problems that stock ComfyUI has with the result, by the list that `verify` uses. */
export function unusableNotes(
  model: ModelSource,
  tensors: Tensors,
  plan: Plan,
): string[] {
  const shard = unusableFiles(model.paths.map(nameOfInput));
  const found = shard?.rule === "lone-shard" ? [shard] : [];
  const sharded = unusableFiles(plan.parts.map(() => ""));
  if (sharded !== null) found.push(sharded);
  const quantized = plan.tensors.filter(({ action }) => action === "quantize");
  if (quantized.length > 0) {
    const parts = quantized.map(({ source }) => rawModule(source) ?? unusablePart(source.name));
    const whole = unusableFile(tensors, plan.detection);
    for (const one of whole === null ? parts : [whole]) {
      if (one !== null && !found.includes(one)) found.push(one);
    }
  }
  return found.map(({ what, effect, hint }) =>
    `stock ComfyUI cannot use the result: ${what} (${effect})${
      hint === undefined ? "" : `; ${hint}`
    }`
  );
}
