/** The method of a conversion in a sentence. */

import type { ConvertOptions } from "../plan/options.ts";
import type { Plan } from "../plan/plan.ts";
import { isLearnedOptimizer, type LearnedOptimizer } from "../quant/learned/options.ts";

/** How many layers make up for their rounding errors. */
export function compensatedCount(plan: Plan): number {
  return plan.tensors.filter(({ scheme }) => (scheme?.method ?? "rtn") !== "rtn").length;
}

/**
 * Returns what was done to the layers, whatever was asked for.
 *
 * @param fellBack how many layers that were to be compensated were rounded to nearest when it came to it.
 */
export function methodOf(plan: Plan, options: ConvertOptions, fellBack = 0): string {
  if (options.output === "fp16") return "cast to F16";
  if (options.method === "simple") return "method: simple, round to nearest";
  return methodLine(plan, options, fellBack);
}

/** Which method is used, and why. */
export function methodLine(plan: Plan, options: ConvertOptions, fellBack = 0): string {
  const { method, calibrationPath, calibrationLora, quip } = options;
  const learned = plan.tensors.filter(({ scheme }) => scheme?.learned !== undefined).length;
  const data = [
    ...(calibrationPath === null ? [] : [`data in ${calibrationPath}`]),
    ...(calibrationLora === null ? [] : [`directions in ${calibrationLora}`]),
  ].join(" or ");
  if (isLearnedOptimizer(method)) return learnedLine(plan, method, { learned, data });
  const compensated = compensatedCount(plan);
  const name = method === "quip" ? "quip" : "gptq";
  if (data === "") {
    const none = "no calibration data was given";
    if (name === "quip" && quip.storeTransformed) {
      return `method: quip, transformed and rounded to nearest with scale search (${none})`;
    }
    const nothing = method === "auto" ? "" : ": there is nothing to compensate by";
    return `method: ${method}, round to nearest with scale search (${none}${nothing})`;
  }
  if (compensated === 0) {
    return `method: round to nearest with scale search: ${name} compensates by real statistics, and no ` +
      `layer has ${data}`;
  }
  if (fellBack > 0 && fellBack === compensated) {
    return `method: round to nearest: ${name} was planned for ${compensated} layers, and failed for all`;
  }
  const done = compensated - fellBack;
  const rest = plan.totals.quantize - done;
  return `method: ${name} for ${done} layers with ${data}` +
    (rest > 0 ? `, round to nearest with scale search for the ${rest} others` : "");
}

function learnedLine(
  plan: Plan,
  method: LearnedOptimizer,
  { learned, data }: { learned: number; data: string },
): string {
  const rest = plan.totals.quantize - learned;
  const by = data === ""
    ? "by the error in the leading singular directions of each layer (no calibration data was given)"
    : `by the error of the outputs for layers with ${data}, else in their leading ` +
      "singular directions";
  return `method: ${method}, learned rounding of ${learned} ${
    learned === 1 ? "layer" : "layers"
  }, ` +
    by + (rest > 0 ? `; other methods for the ${rest} others` : "");
}
