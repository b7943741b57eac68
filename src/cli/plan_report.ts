/** The plan for people and for programs: what `--dry-run analyze` prints. */

import type { Plan, PlannedTensor } from "../plan/plan.ts";
import { explain } from "../presets/explain.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import { formatBytes, visible } from "./format.ts";

/**
 * The stable JSON shape of a plan.
 *
 * @param loras what becomes of the LoRAs that are merged.
 */
export function planJson(plan: Plan, loras: readonly LoraReport[] = []): Record<string, unknown> {
  const { totals } = plan;
  return {
    family: plan.detection.family,
    target: plan.target,
    totals: {
      quantize: totals.quantize,
      keep: totals.keep,
      cast: totals.cast,
      remove: totals.remove,
      input_bytes: totals.inputBytes,
      output_bytes: totals.outputBytes,
    },
    layout: plan.detection.layout,
    prefix: plan.detection.prefix,
    fallbacks: plan.fallbacks,
    misfits: plan.misfits,
    shards: plan.parts.map(({ names, totalBytes }) => ({
      tensors: names.length,
      bytes: totalBytes,
    })),
    loras: lorasJson(loras),
    tensors: plan.tensors.map(tensorJson),
  };
}

/** LoRAs for programs. */
export function lorasJson(loras: readonly LoraReport[]): Record<string, unknown>[] {
  return loras.map(({ path, strength, modules, resolved, unmatched, mismatched }) => ({
    path,
    strength,
    layers: modules,
    merged: resolved,
    unmatched: unmatched.map(({ key }) => key),
    mismatched: mismatched.map(({ key }) => key),
  }));
}

/** A LoRA for people: how much of it has a place in the model. */
export function loraLine({ path, strength, modules, resolved }: LoraReport): string {
  return `${visible(path)}, ${resolved} of ${modules} layers, strength ${strength}`;
}

function tensorJson({ source, action, reason, scheme }: PlannedTensor): Record<string, unknown> {
  return {
    name: source.name,
    action,
    reason,
    format: scheme?.format ?? null,
    convrot_groupsize: scheme?.convrotGroupSize ?? null,
    method: scheme?.method ?? null,
    scaling: scheme?.scaling.kind ?? null,
    scale_search: scheme?.scaleSearch ?? null,
    dtype: source.dtype,
    shape: source.shape,
  };
}

/** The plan as lines of text: totals, then tensors grouped by what happens to them and why. */
export function planLines(plan: Plan, loras: readonly LoraReport[] = []): string[] {
  const { totals } = plan;
  const lines = [
    `family    ${explain(plan.detection, plan.choice)}`,
    `target    ${plan.target}`,
    `quantize  ${totals.quantize} tensors`,
    `keep      ${totals.keep} tensors`,
  ];
  if (totals.cast > 0) lines.push(`cast      ${totals.cast} tensors`);
  if (totals.remove > 0) lines.push(`remove    ${totals.remove} tensors`);
  for (const lora of loras) lines.push(`merge     ${loraLine(lora)}`);
  lines.push(
    `size      ${formatBytes(totals.inputBytes)} -> ${formatBytes(totals.outputBytes)}`,
    ...shardLines(plan),
    "",
  );
  for (const [title, tensors] of groups(plan)) {
    lines.push(`${title}: ${tensors.length}`);
    for (const { source } of tensors) {
      lines.push(`  ${source.name}  ${source.dtype} [${source.shape.join(", ")}]`);
    }
  }
  return lines;
}

/** Where the output has several files: how large each is, and what it begins with. */
function shardLines({ parts }: Plan): string[] {
  if (parts.length === 1) return [];
  return [
    `shards    ${parts.length}`,
    ...parts.map(({ names, totalBytes }, index) => {
      const tensors = `${names.length} ${names.length === 1 ? "tensor" : "tensors"}`;
      return `  ${String(index + 1).padStart(5, "0")}  ${formatBytes(totalBytes)}, ${tensors}`;
    }),
  ];
}

function groups(plan: Plan): Map<string, PlannedTensor[]> {
  const byTitle = new Map<string, PlannedTensor[]>();
  for (const tensor of plan.tensors) {
    const title = `${tensor.action} (${recipe(tensor)}${tensor.reason})`;
    const group = byTitle.get(title);
    if (group === undefined) byTitle.set(title, [tensor]);
    else group.push(tensor);
  }
  return byTitle;
}

function recipe({ scheme }: PlannedTensor): string {
  if (scheme === null) return "";
  const convrot = scheme.convrotGroupSize === null ? "" : ` convrot ${scheme.convrotGroupSize}`;
  return `${scheme.scaling.kind}${convrot}; `;
}
