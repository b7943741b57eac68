/**
 * The merge of a list of LoRAs into a model, decided from headers alone: which changes each weight
 * gets, with what strength, and what of the LoRAs has no place in the model.
 */

import { UnsupportedError, UsageError } from "../core/errors.ts";
import type { Tensors } from "../core/tensor.ts";
import { buildKeyMap, type KeyMap } from "./key_map.ts";
import { loraDampening } from "./merge.ts";
import { checkLora, parseLora } from "./parse_lora.ts";
import {
  type LoraResolution,
  type LoraTarget,
  type MismatchedKey,
  NOT_ADAPTER,
  resolveLora,
  type UnmatchedKey,
} from "./resolve_lora.ts";

/** The header of a LoRA file. */
export interface LoraFile {
  readonly path: string;
  readonly tensors: Tensors;
  readonly metadata: Readonly<Record<string, string>> | null;
}

/** How LoRAs are merged. */
export interface MergeOptions {
  /** `--merge-lora-scale`. Default: 1. */
  readonly scale?: number;
  /** Whether the n-th file counts 0.9^(n-1). Default: true. */
  readonly dampen?: boolean;
  /** Whether layers without a place in the model are an error. Default: false. */
  readonly strict?: boolean;
}

/** One change of one weight. */
export interface MergeStep {
  /** Index of the file in the list. */
  readonly file: number;
  readonly target: LoraTarget;
  /** The scale times the file's dampening. */
  readonly strength: number;
}

/** Result of one file. */
export interface LoraReport {
  readonly path: string;
  readonly strength: number;
  /** Adapted layers in the file, and those that change the model. */
  readonly modules: number;
  readonly resolved: number;
  readonly unmatched: readonly UnmatchedKey[];
  readonly mismatched: readonly MismatchedKey[];
}

/** All changes of a model's tensors. */
export interface MergePlan {
  /** By tensor name, in the order in which they are merged: that of the files. */
  readonly steps: ReadonlyMap<string, readonly MergeStep[]>;
  readonly reports: readonly LoraReport[];
}

/** How many keys an error message lists. */
const LISTED = 5;

/**
 * Plans the merge of LoRA files into a model.
 *
 * @param files the headers of the files, in the order the user gave them.
 * @param modelTensors all tensors of the model.
 * @throws UsageError if the scale is not finite; FormatError and UnsupportedError as `checkLora`;
 *   UnsupportedError if a file is for another model, or, with `strict`, has layers without a place.
 */
export function planMerge(
  files: readonly LoraFile[],
  modelTensors: Tensors,
  { scale = 1, dampen = true, strict = false }: MergeOptions = {},
): MergePlan {
  if (!Number.isFinite(scale)) {
    throw new UsageError(`Cannot merge LoRAs: the scale is ${scale}, a finite number is needed`);
  }
  const keyMap = buildKeyMap(modelTensors);
  const steps = new Map<string, MergeStep[]>();
  const reports = files.map((file, index): LoraReport => {
    const lora = parseLora(file.tensors, file.metadata);
    checkLora(file.path, lora);
    const resolution = resolveLora(lora, modelTensors, keyMap);
    checkFits(file.path, resolution, keyMap);
    if (strict) checkComplete(file.path, resolution);
    const strength = scale * (dampen ? loraDampening(index) : 1);
    for (const target of resolution.targets) {
      const list = steps.get(target.weight.name) ?? [];
      steps.set(target.weight.name, list);
      list.push({ file: index, target, strength });
    }
    return {
      path: file.path,
      strength,
      modules: lora.modules.length,
      resolved: resolution.resolved,
      unmatched: resolution.unmatched,
      mismatched: resolution.mismatched,
    };
  });
  return { steps, reports };
}

/** Layers of a LoRA for one component of a pipeline. */
interface ComponentCount {
  fits: number;
  all: number;
  /** Whether the model is known to have the component. */
  present: boolean;
}

/**
 * Throws if a LoRA is for another model: of the layers that it has for a component that the model
 * has, fewer than half are there. (A LoRA of a model's relative, Flux for Chroma, has three quarters.)
 */
function checkFits(path: string, resolution: LoraResolution, keyMap: KeyMap): void {
  const counts = new Map<string, ComponentCount>();
  const count = (key: string, fits: boolean) => {
    const { component, slot } = keyMap.find(key).scope;
    const name = `${component} ${slot}`;
    const entry = counts.get(name) ??
      { fits: 0, all: 0, present: component === "denoiser" && keyMap.hasDenoiser };
    counts.set(name, entry);
    entry.all++;
    if (!fits) return;
    entry.fits++;
    entry.present = true;
  };
  const resolved = new Set(resolution.targets.map((target) => target.module.key));
  for (const key of resolved) count(key, true);
  for (const { key } of resolution.mismatched) count(key, false);
  for (const { key, reason } of resolution.unmatched) {
    if (reason !== NOT_ADAPTER && !resolved.has(key)) count(key, false);
  }
  const components = [...counts.values()];
  const foreign = components.find((c) => c.present && c.fits * 2 < c.all);
  if (foreign === undefined && resolution.resolved > 0) return;
  const { fits, all } = foreign ??
    { fits: 0, all: components.reduce((sum, c) => sum + c.all, 0) };
  throw new UnsupportedError(
    `Cannot merge LoRA ${JSON.stringify(path)}: it is for another model, ${fits} of its ${all} ` +
      `layers are in this one; ${listFaults(resolution)}`,
  );
}

function checkComplete(path: string, resolution: LoraResolution): void {
  const faults = resolution.unmatched.length + resolution.mismatched.length;
  if (faults === 0) return;
  throw new UnsupportedError(
    `Cannot merge LoRA ${
      JSON.stringify(path)
    }: ${faults} of its layers have no place in the model, ` +
      `and --strict is on; ${listFaults(resolution)}`,
  );
}

function listFaults({ unmatched, mismatched }: LoraResolution): string {
  const lines = [
    ...mismatched.map((m) =>
      `${JSON.stringify(m.key)} is ${m.shape.join(" x ")}, ${JSON.stringify(m.weightName)} is ${
        m.wanted.join(" x ")
      }`
    ),
    ...unmatched.map((u) => `${JSON.stringify(u.key)}: ${u.reason}`),
  ];
  const more = lines.length > LISTED ? `; and ${lines.length - LISTED} more` : "";
  return lines.slice(0, LISTED).join("; ") + more;
}
