/** Options that contradict one another, in one list for every door. */

import { UsageError } from "../core/errors.ts";
import { isLearnedOptimizer, type LearnedOptions } from "../quant/learned/options.ts";
import { gridWriterFor } from "../formats/written_format.ts";
import { type GridOutput, isGridOutput, LEVEL_OUTPUTS } from "../formats/outputs.ts";
import type { OptionNames } from "./option_names.ts";
import type { ConvertOptions } from "./options.ts";
import { scalingNameOf } from "./scheme_choice.ts";

/**
 * @param names how the options are written by who asked for them.
 * @throws UsageError for two options of which each makes the other impossible.
 */
export function refuseContradictions(options: ConvertOptions, names: OptionNames): void {
  const { quip, convrot, comfyQuant } = options;
  refuseDirections(options.learned, names);
  refuseCodebook(options, names);
  if (isGridOutput(options.output)) refuseWithGrid(options, names);
  if (options.fit !== null || options.maxError !== null) refuseWithFit(options, names);
  if (options.method === "quip" && quip.storeTransformed) {
    return refuseWithTransform(options, names);
  }
  if (convrot === null || convrot === "off") return;
  const scaling = scalingNameOf(options);
  if (scaling !== "row") {
    refuse(names("convrot"), names("scaling", scaling), "rotation needs row scaling");
  }
  if (!comfyQuant) {
    refuse(
      names("convrot"),
      names("comfyQuant", false),
      "only the comfy_quant marker shows a loader the rotation",
    );
  }
}

function refuse(one: string, other: string, why: string): never {
  throw new UsageError(`Cannot use ${one} with ${other}: ${why}`);
}

function refuseWithTransform(
  { scaling, convrot, comfyQuant }: ConvertOptions,
  names: OptionNames,
): void {
  const transform = names("quip.storeTransformed", true);
  if (scaling !== null && scaling !== "row") {
    refuse(names("scaling", scaling), transform, "transformed weights have a scale per row");
  }
  if (convrot !== null && convrot !== "off") {
    refuse(names("convrot"), transform, "the weight is rotated already");
  }
  if (!comfyQuant) {
    refuse(names("comfyQuant", false), transform, "only a marker shows a loader the transform");
  }
}

/** A table of levels of a format that has none; formats of single layers may have one. */
function refuseCodebook(options: ConvertOptions, names: OptionNames): void {
  const { codebook, output, fit, maxError, fitFormats, layers, preset } = options;
  const isFitting = (fit !== null || maxError !== null) && fitFormats.includes("w4a8");
  if (codebook === "default" || output === "w4a8" || isFitting) return;
  if (layers !== null || preset.kind === "like") return;
  refuse(names("codebook", codebook), names("output", output), "only w4a8 has a table of levels");
}

/** Options that other formats than INT8 cannot be combined with. */
function refuseWithGrid(options: ConvertOptions, names: OptionNames): void {
  const output = options.output as GridOutput;
  const { target, scaling, convrot, comfyQuant, quip, method } = options;
  const format = names("output", output);
  if (target !== "comfyui") {
    refuse(names("target", target), format, "only stock ComfyUI loads this format");
  }
  if (scaling !== null && scaling !== "row") {
    refuse(names("scaling", scaling), format, "the format has scales of its own");
  }
  const { rotates } = gridWriterFor(output).writer;
  if (convrot === "off" && rotates) {
    refuse(names("convrot", convrot), format, "its weights are rotated always");
  }
  if (convrot !== null && convrot !== "off" && !rotates) {
    refuse(names("convrot", convrot), format, "it has no rotation");
  }
  if (!comfyQuant) {
    refuse(names("comfyQuant", false), format, "only the comfy_quant marker shows it to a loader");
  }
  if (method === "quip" && (quip.storeTransformed || quip.requantScheme !== null)) {
    const what = quip.storeTransformed
      ? names("quip.storeTransformed", true)
      : names("quip.requantScheme", quip.requantScheme);
    refuse(what, format, "it is a layout of INT8");
  }
  refuseMethodOnGrid(output, names("method", method), format, method);
}

/** Methods that a grid does not have: nothing else is done in their place. */
function refuseMethodOnGrid(
  output: GridOutput,
  asked: string,
  format: string,
  method: ConvertOptions["method"],
): void {
  const isLevels = (LEVEL_OUTPUTS as readonly string[]).includes(output);
  if (isLearnedOptimizer(method)) {
    const others = isLevels ? "; gptq and quip make up for errors on this grid" : "";
    refuse(asked, format, `learned rounding moves codes of INT8 only${others}`);
  }
  if (!isLevels && (method === "gptq" || method === "quip")) {
    refuse(asked, format, "floats are rounded to nearest: compensation gains little on them");
  }
}

/** What the choice of a format for each layer leaves no room for. */
function refuseWithFit(options: ConvertOptions, names: OptionNames): void {
  const { fit, maxError, fitFormats, output, preset } = options;
  const choice = fit !== null ? names("fit") : names("maxError", maxError);
  if (fit !== null && maxError !== null) {
    refuse(names("maxError", maxError), choice, "one asks for a size, the other for an error");
  }
  if (new Set(fitFormats).size < fitFormats.length) {
    throw new UsageError(`Cannot use ${names("fitFormats")}: a format is named twice`);
  }
  if (output !== "int8") {
    refuse(names("output", output), choice, `${names("fitFormats")} says what is chosen from`);
  }
  if (preset.kind === "like") {
    refuse(names("preset"), choice, "the reference file says the format of each layer");
  }
  // The formats that are chosen from are those of stock ComfyUI.
  refuseWithGrid(
    { ...options, output: "w4a8" },
    (path, value) => path === "output" ? choice : names(path, value),
  );
}

function refuseDirections(learned: LearnedOptions, names: OptionNames): void {
  const { minDirections, maxDirections, schedule, lr } = learned;
  if (minDirections > maxDirections) {
    refuse(
      names("learned.minDirections", minDirections),
      names("learned.maxDirections", maxDirections),
      "the fewest directions are more than the most",
    );
  }
  if (schedule.kind === "plateau" && schedule.min > lr) {
    refuse(
      names("learned.schedule.min", schedule.min),
      names("learned.lr", lr),
      "the rate begins below its minimum",
    );
  }
}
