/** The lines before a conversion: device, model, method, plan, and what the user should know. */

import { isStockFormat } from "../../formats/written_format.ts";
import type { ConvertStart } from "../../convert/convert.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import type { Plan } from "../../plan/plan.ts";
import { explain, presetOfAnother } from "../../presets/explain.ts";
import { formatBytes } from "../format.ts";
import { methodLine } from "../method_line.ts";
import { loraLine } from "../plan_report.ts";

import type { ConversionRequest } from "./conversion_request.ts";

/** Says before the work what will be done, on what, and what the user should know. */
export function announce(start: ConvertStart, request: ConversionRequest): void {
  const { plan, notes, loras } = start;
  const { log, options } = request;
  log.info(deviceLine(start));
  log.info(`model: ${explain(plan.detection, plan.choice)}`);
  const another = presetOfAnother(plan.detection, plan.choice.preset);
  if (another !== null) log.warn(another);
  if (options.method !== "simple" && options.output === "int8") log.info(methodLine(plan, options));
  for (const lora of loras) log.info(`merging: ${loraLine(lora)}`);
  const { totals } = plan;
  const parts = [
    `${totals.quantize} quantized`,
    `${totals.keep} kept`,
    ...(totals.cast > 0 ? [`${totals.cast} cast`] : []),
    ...(totals.remove > 0 ? [`${totals.remove} removed`] : []),
  ];
  log.info(
    `plan: ${parts.join(", ")}; ${formatBytes(totals.inputBytes)} -> ${
      formatBytes(totals.outputBytes)
    }`,
  );
  for (const line of outputLines(start, request)) log.info(line);
  for (const note of notes) log.warn(note);
  for (const fallback of plan.fallbacks) log.verbose(`falls back: ${fallback}`);
  if (plan.fallbacks.length > 0) {
    const count = plan.fallbacks.length;
    log.info(
      `${count} ${count === 1 ? "layer falls" : "layers fall"} back to plain row scaling ` +
        "(--verbose VERBOSE names each)",
    );
  }
  for (const misfit of plan.misfits) log.verbose(`kept: ${misfit}`);
  if (plan.misfits.length > 0) {
    log.info(
      `${counted(plan.misfits.length, "layer")} kept by --heur: the mode does not fit ` +
        "(--verbose VERBOSE names each)",
    );
  }
  for (const warning of targetWarnings(plan, options)) log.warn(warning);
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function deviceLine({ gpu, workers }: ConvertStart): string {
  const shared = `${workers} ${workers === 1 ? "worker" : "workers"}`;
  return gpu === null ? `device: cpu (${shared})` : `device: gpu, ${gpu} (${shared} on the CPU)`;
}

/** The output, and how much of it an interrupted run had finished. */
function outputLines({ output, plan, resumed }: ConvertStart, { io }: ConversionRequest): string[] {
  const shards = plan.parts.length > 1 ? ` (${plan.parts.length} shards)` : "";
  const begins = io.resume && resumed === null ? ["resume: no unfinished run found, starting"] : [];
  return [
    `output: ${output}${shards}`,
    ...begins,
    ...(resumed === null ? [] : [`resume: ${(100 * resumed).toFixed(1)}% was finished`]),
  ];
}

/** Warnings about formats that stock ComfyUI does not load. */
function targetWarnings(plan: Plan, options: ConvertOptions): string[] {
  const formats = new Set(plan.tensors.flatMap(({ scheme }) => scheme?.format ?? []));
  const warnings: string[] = [];
  if (plan.totals.quantize === 0 && plan.totals.cast === 0) {
    warnings.push(
      "nothing will be quantized: the output is a copy (`--dry-run` gives the reason for each tensor)",
    );
  }
  for (const format of formats) {
    if (isStockFormat(format)) continue;
    warnings.push(
      `stock ComfyUI does not load ${format} (KeyError); convert_to_quant's own loader and its forks do`,
    );
  }
  if (plan.detection.layout === "lora" && plan.totals.quantize > 0) {
    warnings.push(
      "stock ComfyUI takes the codes of a quantized LoRA for its weights: `quantsmith dequantize` it " +
        "before it is loaded there, or merge the original by --merge-lora",
    );
  }
  if (!options.comfyQuant && plan.totals.quantize > 0) {
    warnings.push(
      "without comfy_quant markers stock ComfyUI does not see that the file is quantized; " +
        "loaders of the old scale_weight layout do",
    );
  }
  return warnings;
}
