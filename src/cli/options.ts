/**
 * From a parsed command line to the options of one conversion. Contradictions are refused here, with
 * what to change; flags that cannot change anything are told by `idle_flags.ts`.
 */

import { statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UsageError } from "../core/errors.ts";
import { compileLayerPattern } from "../config/layer_pattern.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS, methodByDefault } from "../plan/options.ts";
import { scalingNameOf } from "../plan/mode.ts";
import { presetByName } from "../presets/registry.ts";
import { filesOf, verbosityOf } from "./files.ts";
import { PRESET_FLAGS } from "./flags/table.ts";
import { idleFlags } from "./idle_flags.ts";
import { isLearnedOptimizer } from "../quant/learned/options.ts";
import { learnedOf } from "./learned_flags.ts";
import { gpuMemoryOf, idleGpuFlags } from "./gpu_flags.ts";
import { layersOf, mergeOf } from "./layer_flags.ts";
import { quipOf, refuseQuipContradictions, segmentsOf } from "./quip_flags.ts";
import type { Parsed } from "./parse.ts";
import type { ConvertIo, ConvertRequest } from "./request.ts";

export type { ConvertIo, ConvertRequest } from "./request.ts";

const DEFAULT_QUALITY_THRESHOLD_DB = 30;

/**
 * Returns what `parsed` asks for.
 *
 * @throws UsageError where flags contradict one another or the input is missing.
 */
export function toConvertRequest(parsed: Parsed): ConvertRequest {
  refuseContradictions(parsed);
  const options = optionsOf(parsed);
  const io = ioOf(parsed);
  const gpu = idleGpuFlags(parsed, options, io);
  return {
    options,
    io,
    warnings: [...idleFlags(parsed, options, io), ...gpu.always],
    warningsOnCpu: gpu.onCpu,
  };
}

function optionsOf(parsed: Parsed): ConvertOptions {
  const target = (parsed.string("target") ?? "comfyui") as ConvertOptions["target"];
  const scaling = parsed.string("scaling_mode");
  const scaleSearch = parsed.string("scale-search") as ConvertOptions["scaleSearch"];
  const flags = PRESET_FLAGS.filter((name) => parsed.bool(name));
  const optimizer = parsed.string("optimizer");
  const method = parsed.bool("simple")
    ? "simple"
    : optimizer as ConvertOptions["method"] | null ?? methodByDefault(target);
  return Object.freeze<ConvertOptions>({
    target,
    output: parsed.bool("fp16") ? "fp16" : "int8",
    scaling: (scaling === "axis" ? "row" : scaling) as ConvertOptions["scaling"],
    blockSize: parsed.number("block_size") ?? DEFAULT_CONVERT_OPTIONS.blockSize,
    convrot: convrotOf(parsed),
    scaleSearch,
    method,
    learned: learnedOf(parsed),
    seed: parsed.number("manual_seed") ?? DEFAULT_CONVERT_OPTIONS.seed,
    quip: quipOf(parsed),
    segments: segmentsOf(parsed),
    calibrationPath: parsed.string("calibration-data"),
    calibrationHoldout: parsed.number("calibration-holdout") ??
      DEFAULT_CONVERT_OPTIONS.calibrationHoldout,
    biasCorrection: parsed.bool("bias-correction", DEFAULT_CONVERT_OPTIONS.biasCorrection),
    staticActivations: parsed.bool("static-activations"),
    calibrationLora: parsed.string("calibration-lora"),
    smoothAlpha: parsed.bool("smoothquant") ? parsed.number("smoothquant-alpha") ?? 0.5 : null,
    actOrder: parsed.bool(method === "quip" ? "quip-actorder" : "gptq-actorder", true),
    turbo: parsed.bool("gptq-turbo", DEFAULT_CONVERT_OPTIONS.turbo),
    heur: parsed.bool("heur"),
    comfyQuant: parsed.bool("comfy_quant", true),
    saveQuantMetadata: parsed.bool("save-quant-metadata"),
    fullPrecisionMatrixMult: parsed.bool("full_precision_matrix_mult"),
    inputScale: parsed.bool("input_scale"),
    normalizeScales: !parsed.bool("no-normalize-scales"),
    excludeLayers: excludeOf(parsed),
    layers: layersOf(parsed),
    merge: mergeOf(parsed),
    nonfinite: (parsed.string("nonfinite") ?? "error") as ConvertOptions["nonfinite"],
    preset: presetOf(parsed, { flags, target }),
    tier: (parsed.string("tier") ?? "balanced") as ConvertOptions["tier"],
    requantize: parsed.bool("requantize"),
    lora: flags.includes("lora"),
    shardBytes: parsed.number("shard-size"),
  });
}

function ioOf(parsed: Parsed): ConvertIo {
  return Object.freeze({
    ...filesOf(parsed),
    force: parsed.bool("force"),
    resume: parsed.bool("resume"),
    dryRun: parsed.string("dry-run") as ConvertIo["dryRun"],
    json: parsed.bool("json"),
    verify: parsed.bool("verify"),
    workers: parsed.number("workers"),
    memoryLimitBytes: parsed.number("memory-limit"),
    lowMemory: parsed.bool("low-memory"),
    device: deviceOf(parsed),
    gpuMemory: gpuMemoryOf(parsed),
    reportQuality: parsed.bool("report-quality"),
    qualityThreshold: parsed.number("quality-threshold") ?? DEFAULT_QUALITY_THRESHOLD_DB,
    strict: parsed.bool("strict"),
    progress: parsed.bool("progress", true),
    verbosity: verbosityOf(parsed),
    reportPath: reportPathOf(parsed),
    reportLayers: reportLayersOf(parsed),
  });
}

/** `--low-memory` forces the CPU, as documented; asking for both is refused. */
function deviceOf(parsed: Parsed): ConvertIo["device"] {
  return parsed.bool("low-memory")
    ? "cpu"
    : (parsed.string("device") ?? "auto") as ConvertIo["device"];
}

function refuseContradictions(parsed: Parsed): void {
  if (parsed.bool("low-memory") && parsed.string("device") === "gpu") {
    throw new UsageError("Cannot use --low-memory with --device gpu: it forces the CPU");
  }
  if (parsed.bool("int8") && parsed.bool("fp16")) {
    throw new UsageError("Cannot use --int8 with --fp16: choose one");
  }
  if (parsed.has("int8") && !parsed.bool("int8") && !parsed.bool("fp16")) {
    throw new UsageError("Cannot use --no-int8 without --fp16: nothing would be converted");
  }
  if (parsed.bool("simple") && parsed.has("optimizer")) {
    throw new UsageError(
      `Cannot use --simple with --optimizer ${parsed.string("optimizer")}: ` +
        "--simple is plain round to nearest",
    );
  }
  if (parsed.bool("no-memory-limits") && parsed.has("memory-limit")) {
    throw new UsageError(
      "Cannot use --no-memory-limits with --memory-limit: the one takes the limits away, the " +
        "other sets one",
    );
  }
  refuseQuipContradictions(parsed);
  const convrot = convrotOf(parsed);
  const scaling = parsed.string("scaling_mode") ??
    (parsed.string("target") === "ctq" && parsed.string("optimizer") !== "quip" ? "block" : "row");
  if (convrot !== null && convrot !== "off" && !parsed.bool("fp16")) {
    if (scaling === "tensor" || scaling === "block") {
      throw new UsageError(
        `Cannot use --convrot with --scaling_mode ${scaling}: rotation needs row scaling`,
      );
    }
    if (!parsed.bool("comfy_quant", true)) {
      throw new UsageError(
        "Cannot use --convrot with --no-comfy-quant: only the marker tells a loader of the rotation",
      );
    }
  }
  const choices = [
    ...(parsed.has("preset") ? ["--preset"] : []),
    ...(parsed.has("like") ? ["--like"] : []),
    ...PRESET_FLAGS.filter((name) => parsed.bool(name)).slice(0, 1).map((name) => `--${name}`),
  ];
  if (choices.length > 1) {
    throw new UsageError(`Cannot use ${choices.join(" with ")}: each says which layers to keep`);
  }
}

function convrotOf(parsed: Parsed): ConvertOptions["convrot"] {
  const word = parsed.string("convrot");
  if (word === null || word === "auto" || word === "off") return word;
  const group = Number(word);
  // A power of 4 is a power of 2 whose exponent is even; 1 would rotate nothing.
  if (group >= 4 && Number.isInteger(Math.log2(group) / 2)) return group;
  throw new UsageError(
    `Cannot use ${word} for --convrot: a group is a power of 4 from 4 on: 16, 64, 256, 1024`,
  );
}

function excludeOf(parsed: Parsed): ConvertOptions["excludeLayers"] {
  const source = parsed.string("exclude-layers");
  return source === null ? null : compileLayerPattern(source, { place: "--exclude-layers" });
}

function presetOf(
  parsed: Parsed,
  { flags, target }: { flags: readonly string[]; target: ConvertOptions["target"] },
): ConvertOptions["preset"] {
  if (flags.length > 0) return { kind: "documented", names: flags };
  const path = parsed.string("like");
  if (path !== null) return { kind: "like", path };
  const name = parsed.string("preset");
  if (name !== null) return presetByName(name);
  return target === "ctq" ? { kind: "none" } : { kind: "auto" };
}

function reportPathOf(parsed: Parsed): string | null {
  const path = parsed.string("report");
  if (path === null || /\.(json|html?)$/i.test(path)) return path;
  throw new UsageError(
    `Cannot write --report ${JSON.stringify(path)}: its name ends with .html or .json`,
  );
}

function reportLayersOf(parsed: Parsed): string | null {
  const source = parsed.string("report-layers");
  // A pattern that cannot be read is told before the work.
  if (source !== null) compileLayerPattern(source, { place: "--report-layers" });
  return source;
}

/**
 * Returns the name of an output that says what it holds, beside the input:
 * `model_int8_row_convrot256_mse.safetensors`. A folder or an index gives its own name.
 *
 * @param input a file, a folder or an index, as the user gave it.
 * @param options `convrotGroup` is the largest rotation group of the plan, null where none rotates.
 */
export function autoOutputName(
  input: string,
  options: Pick<
    ConvertOptions,
    | "target"
    | "output"
    | "scaling"
    | "convrot"
    | "quip"
    | "blockSize"
    | "scaleSearch"
    | "method"
    | "calibrationPath"
    | "calibrationLora"
    | "merge"
  >,
  { convrotGroup }: { convrotGroup: number | null },
): string {
  const path = resolve(input);
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const stem = isFolder
    ? basename(path)
    : basename(path).replace(/\.safetensors(\.index\.json)?$/, "");
  const folder = dirname(isFolder ? path : input);
  return join(folder, `${stem}_${modeName(options, convrotGroup)}.safetensors`);
}

function modeName(
  options: Parameters<typeof autoOutputName>[1],
  convrotGroup: number | null,
): string {
  const merged = options.merge === null ? [] : ["lora"];
  if (options.output === "fp16") return [...merged, "fp16"].join("_");
  const scaling = scalingNameOf(options);
  const isQuip = options.method === "quip";
  const search = options.scaleSearch ?? (options.method === "simple" ? "off" : "mse");
  const isCompensated = options.method !== "simple" &&
    (options.calibrationPath !== null || options.calibrationLora !== null);
  return [
    ...merged,
    "int8",
    scaling === "block" || scaling === "group" ? `${scaling}${options.blockSize}` : scaling,
    ...(convrotGroup === null ? [] : [`convrot${convrotGroup}`]),
    ...(search === "mse" ? ["mse"] : []),
    ...(isLearnedOptimizer(options.method) ? [options.method] : []),
    ...(isCompensated && !isQuip && !isLearnedOptimizer(options.method) ? ["gptq"] : []),
    ...(isQuip ? [options.quip.storeTransformed ? "quip_transformed" : "quip"] : []),
  ].join("_");
}
