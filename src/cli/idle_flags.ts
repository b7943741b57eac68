/** Flags that cannot change anything in the chosen mode, told once each, never silently. */

import type { ConvertOptions } from "../plan/options.ts";
import { scalingNameOf } from "../plan/mode.ts";
import { isLearnedOptimizer } from "../quant/learned/options.ts";
import { LEARNED_FLAGS, SCHEDULE_FLAGS } from "./learned_flags.ts";
import type { Parsed } from "./parse.ts";
import type { ConvertIo } from "./request.ts";

/** What only matters to quantized tensors. */
const INT8_FLAGS = [
  "scaling_mode",
  "block_size",
  "convrot",
  "scale-search",
  "simple",
  "heur",
  "comfy_quant",
  "full_precision_matrix_mult",
  "save-quant-metadata",
  "no-normalize-scales",
  "input_scale",
  "report-quality",
  "quality-threshold",
] as const;

/** What only matters to `--optimizer quip`. */
const QUIP_FLAGS = [
  "quip-actorder",
  "quip-hadamard",
  "quip-seed",
  "quip-store-transformed",
  "quip-requant-scheme",
  "quip-requant-tensor-per-row",
] as const;

/** What only matters to a file that is written. */
const WRITING_FLAGS = [
  "verify",
  "report",
  "report-layers",
  "report-quality",
  "quality-threshold",
  "workers",
  "memory-limit",
  "low-memory",
] as const;

/** One reason, and the flags that it makes idle. */
export interface IdleRule {
  readonly when: boolean;
  readonly names: readonly string[];
  readonly why: string;
}

/**
 * Returns one sentence per reason for the given flags that change nothing.
 *
 * @param parsed what was given.
 * @param options what it resolved to; `io` likewise.
 */
export function idleFlags(parsed: Parsed, options: ConvertOptions, io: ConvertIo): string[] {
  return idleBy(rules(options, io), (name) => parsed.has(name) ? `--${name}` : null).warnings;
}

/**
 * Returns one sentence per rule that makes something idle, and the names that they are about.
 *
 * @param typed gives what was typed for a name; null where it was not.
 */
export function idleBy(
  rules: readonly IdleRule[],
  typed: (name: string) => string | null,
): { readonly warnings: string[]; readonly told: ReadonlySet<string> } {
  const told = new Set<string>();
  const warnings: string[] = [];
  for (const { when, names, why } of rules) {
    const idle = when ? names.filter((name) => typed(name) !== null && !told.has(name)) : [];
    if (idle.length === 0) continue;
    for (const name of idle) told.add(name);
    warnings.push(sentence(idle.map((name) => typed(name)!), why));
  }
  return { warnings, told };
}

function rules(options: ConvertOptions, io: ConvertIo): IdleRule[] {
  const scaling = scalingNameOf(options);
  const isQuip = options.method === "quip";
  const rotates = options.convrot !== "off" && scaling === "row" && options.comfyQuant &&
    (options.convrot !== null || (options.scaling === null && !isQuip));
  const copiesModes = options.preset.kind === "like";
  // Layers that are named may be quantized, or in blocks, whatever holds for the others.
  const isMixed = options.layers !== null;
  const isInt8 = options.output === "int8" || isMixed;
  return [
    { when: !isInt8, names: INT8_FLAGS, why: "with --fp16, which quantizes nothing" },
    {
      when: io.dryRun !== null,
      names: WRITING_FLAGS,
      why: "with --dry-run, which converts nothing",
    },
    {
      when: io.dryRun !== null && options.merge === null,
      names: ["strict"],
      why: "with --dry-run, which converts nothing",
    },
    {
      when: io.dryRun === "analyze",
      names: ["output", "force", "resume"],
      why: "with --dry-run analyze, which writes nothing",
    },
    {
      when: scaling !== "block" && scaling !== "group" && !copiesModes && !isMixed,
      names: ["block_size"],
      why: `with ${scaling} scaling: it is the size of --scaling_mode block`,
    },
    {
      when: (scaling === "row" || scaling === "tensor") && !rotates && !copiesModes && !isMixed,
      names: ["heur"],
      why: `with ${scaling} scaling without rotation, which fits every shape`,
    },
    {
      when: scaling !== "tensor" && !options.inputScale && !copiesModes && !isMixed,
      names: ["no-normalize-scales"],
      why: `with ${scaling} scaling, which has no scalar scales`,
    },
    {
      when: io.reportPath === null || !/\.html?$/i.test(io.reportPath),
      names: ["report-layers"],
      why: "without --report FILE.html, where they are shown",
    },
    {
      when: !options.comfyQuant,
      names: ["full_precision_matrix_mult"],
      why: "with --no-comfy-quant: it is an entry of the marker",
    },
    {
      when: !io.reportQuality && !io.json && !/\.html?$/i.test(io.reportPath ?? ""),
      names: ["quality-threshold"],
      why: "without --report-quality",
    },
    {
      when: !io.reportQuality && options.merge === null,
      names: ["strict"],
      why: "without --report-quality or --merge-lora",
    },
    {
      when: options.merge === null,
      names: ["merge-lora-scale", "merge-lora-dampen"],
      why: "without --merge-lora",
    },
    {
      when: options.merge?.paths.length === 1,
      names: ["merge-lora-dampen"],
      why: "with one LoRA: only those after the first are dampened",
    },
    {
      when: options.preset.kind === "none" || options.preset.kind === "documented" || copiesModes,
      names: ["tier"],
      why: "without a model family: the layers to keep are chosen another way",
    },
    { when: io.lowMemory, names: ["workers"], why: "with --low-memory, which takes one" },
    {
      when: true,
      names: ["gptq-fast"],
      why: "here: the blocked kernels are always used and never change the result",
    },
    { when: !isInt8, names: ["calibration-data"], why: "with --fp16, which quantizes nothing" },
    {
      when: options.calibrationPath === null || !isInt8,
      names: ["calibration-holdout", "bias-correction"],
      why: "without --calibration-data",
    },
    {
      when: options.method === "simple" || !isInt8,
      names: ["calibration-lora", "gptq-turbo"],
      why: "with plain round to nearest",
    },
    {
      when: options.calibrationPath === null && options.calibrationLora === null,
      names: ["gptq-actorder", "gptq-turbo", "quip-actorder", "quip-checkpointed"],
      why: "without --calibration-data",
    },
    {
      when: true,
      names: ["calib_samples"],
      why: "here: rounding follows no synthetic inputs; `quantsmith calibrate` makes them",
    },
    {
      when: options.smoothAlpha === null,
      names: ["smoothquant-alpha"],
      why: "without --smoothquant",
    },
    { when: !isInt8, names: ["smoothquant"], why: "with --fp16, which quantizes nothing" },
    ...quipRules(options, scaling),
    ...learnedRules(options, isMixed),
    {
      when: options.layers === null || options.layers.config === null,
      names: ["fullmatch"],
      why: "without --layer-config",
    },
    {
      when: !(isQuip && options.quip.storeTransformed) && !isLearnedOptimizer(options.method) &&
        !isMixed,
      names: ["manual_seed"],
      why: "with methods that are not random",
    },
    {
      when: true, // an edit does not come here
      names: ["edit-quant", "remove-keys", "add-keys", "quant-filter"],
      why: "without --edit-quant: this is a conversion",
    },
  ];
}

function quipRules(options: ConvertOptions, scaling: string): IdleRule[] {
  const { quip, method, segments, convrot } = options;
  const isRotated = convrot !== null && convrot !== "off";
  return [
    { when: method !== "quip", names: QUIP_FLAGS, why: "without --optimizer quip" },
    { when: method === "quip", names: ["gptq-actorder"], why: "with --optimizer quip" },
    {
      when: !quip.storeTransformed,
      names: ["quip-hadamard", "quip-seed"],
      why: "without --quip-store-transformed: no transform helps a grid in original space, and " +
        "--convrot has one of its own",
    },
    {
      when: quip.storeTransformed || options.scaling !== null || isRotated,
      names: ["quip-requant-scheme", "quip-requant-tensor-per-row"],
      why: `with ${scaling} scaling, which another flag asks for`,
    },
    {
      when: quip.requantScheme === "block",
      names: ["quip-requant-tensor-per-row"],
      why: "with --quip-requant-scheme block",
    },
    {
      when: segments === null,
      names: ["quip-checkpoint-threshold", "quip-checkpoint-segments"],
      why: "without --quip-checkpointed",
    },
    {
      when: quip.storeTransformed,
      names: ["quip-checkpointed", "quip-checkpoint-threshold", "quip-checkpoint-segments"],
      why: "with --quip-store-transformed, which mixes all columns",
    },
  ];
}

function learnedRules({ method, learned }: ConvertOptions, isMixed: boolean): IdleRule[] {
  const isLearned = isLearnedOptimizer(method);
  return [
    {
      when: !isLearned && !isMixed,
      names: LEARNED_FLAGS,
      why: "without --optimizer original, adamw or radam",
    },
    { when: isLearned, names: ["gptq-actorder", "gptq-turbo"], why: `with --optimizer ${method}` },
    ...Object.entries(SCHEDULE_FLAGS).map(([kind, names]): IdleRule => ({
      when: kind !== learned.schedule.kind,
      names,
      why: `with the ${learned.schedule.kind} schedule: --lr_schedule ${kind} has it`,
    })),
  ];
}

function sentence(names: readonly string[], why: string): string {
  const verb = names.length === 1 ? "changes" : "change";
  return `${names.join(", ")} ${verb} nothing ${why}`;
}
