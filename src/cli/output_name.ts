/** The name of an output, after what it holds. */

import { statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { resolveMode } from "../plan/scheme_choice.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Plan } from "../plan/plan.ts";
import { isLearnedOptimizer } from "../quant/learned/options.ts";
import { compensatedCount } from "./method_line.ts";

/** The facts of a plan that the name of its output shows. */
export interface NameFacts {
  /** The largest rotation group; null if none rotates. */
  readonly convrotGroupSize: number | null;
  /** Errors of some layer are compensated. */
  readonly isCompensated: boolean;
}

/** Returns what the name of an output says of its plan. */
export function nameFacts(plan: Plan): NameFacts {
  const groups = plan.tensors.map(({ scheme }) => scheme?.convrotGroupSize ?? 0);
  const largest = groups.reduce((most, group) => Math.max(most, group), 0);
  return {
    convrotGroupSize: largest === 0 ? null : largest,
    isCompensated: compensatedCount(plan) > 0,
  };
}

/**
 * Returns the name of an output that says what it holds, beside the input:
 * `model_int8_row_convrot256_mse.safetensors`. A folder or an index gives its own name.
 *
 * @param input a file, a folder or an index, as the user gave it.
 * @param options what was asked for; `facts`: what the plan made of it.
 */
export function autoOutputName(
  input: string,
  options: ConvertOptions,
  facts: NameFacts,
): string {
  const path = resolve(input);
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const stem = isFolder
    ? basename(path)
    : basename(path).replace(/\.safetensors(\.index\.json)?$/, "");
  const folder = dirname(isFolder ? path : input);
  return join(folder, `${stem}_${modeName(options, facts)}.safetensors`);
}

function modeName(
  options: ConvertOptions,
  { convrotGroupSize, isCompensated }: NameFacts,
): string {
  const merged = options.merge === null ? [] : ["lora"];
  if (options.output === "fp16") return [...merged, "fp16"].join("_");
  const { scaling, scaleSearch: search } = resolveMode(options);
  const isQuip = options.method === "quip";
  const { output, groupSize, codebook } = options;
  if (output !== "int8") {
    return [
      ...merged,
      output,
      ...(output === "w4a8" || output === "w6a8" ? [`g${groupSize}`] : []),
      ...(codebook === "fit" ? ["fit"] : []),
      ...(isQuip ? ["quip"] : isCompensated ? ["gptq"] : []),
    ].join("_");
  }
  return [
    ...merged,
    "int8",
    scaling === "block" || scaling === "group" ? `${scaling}${options.blockSize}` : scaling,
    ...(convrotGroupSize === null ? [] : [`convrot${convrotGroupSize}`]),
    ...(search === "mse" ? ["mse"] : []),
    ...(isLearnedOptimizer(options.method) ? [options.method] : []),
    ...(isCompensated && !isQuip && !isLearnedOptimizer(options.method) ? ["gptq"] : []),
    ...(isQuip ? [options.quip.storeTransformed ? "quip_transformed" : "quip"] : []),
  ].join("_");
}
