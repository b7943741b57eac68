/** The plan for people and for programs: what `--dry-run analyze` prints. */

import type { Plan, PlannedTensor } from "../plan/plan.ts";
import { explain } from "../presets/explain.ts";
import type { LoraReport } from "../lora/plan_merge.ts";
import { formatBytes, shortName, visible } from "./format.ts";
import { groupPlan, type GroupSection, type TensorGroup } from "./plan_groups.ts";

/**
 * The stable JSON shape of a plan.
 *
 * @param loras what becomes of the LoRAs that are merged.
 */
export function planJson(plan: Plan, loras: readonly LoraReport[] = []): Record<string, unknown> {
  return {
    family: plan.detection.family,
    target: plan.target,
    totals: totalsJson(plan),
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

/** Counts and sizes of a plan for programs. */
export function totalsJson(plan: Plan): Record<string, unknown> {
  const { totals } = plan;
  return {
    quantize: totals.quantize,
    keep: totals.keep,
    cast: totals.cast,
    remove: totals.remove,
    input_bytes: totals.inputBytes,
    output_bytes: totals.outputBytes,
    ...bankTotals(plan),
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

/** One tensor of a plan for programs. */
export function tensorJson(
  { source, action, reason, scheme }: PlannedTensor,
): Record<string, unknown> {
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
    ...(scheme !== null && source.shape.length === 3 ? { experts: source.shape[0] } : {}),
  };
}

/** Quantized expert banks, and the experts in them. */
function bankTotals({ tensors }: Plan): { banks: number; experts: number } {
  const banks = tensors.filter(({ source, scheme }) =>
    scheme !== null && source.shape.length === 3
  );
  return {
    banks: banks.length,
    experts: banks.reduce((sum, { source }) => sum + source.shape[0]!, 0),
  };
}

/** How a plan is printed. */
export interface PlanLayout {
  /** Names of groups of like layers are shortened to fit; 80 by default. */
  readonly columns?: number;
  /** Print every tensor instead of groups of like ones. */
  readonly full?: boolean;
}

/** The plan as lines of text: totals, then tensors by what happens to them and why. */
export function planLines(
  plan: Plan,
  loras: readonly LoraReport[] = [],
  { columns = 80, full = false }: PlanLayout = {},
): string[] {
  const { totals } = plan, { banks, experts } = bankTotals(plan);
  const inBanks = banks === 0
    ? ""
    : `, ${banks} of them expert banks with ${experts} experts in all`;
  const saved = totals.inputBytes - totals.outputBytes;
  const lines = [
    `family    ${explain(plan.detection, plan.choice)}`,
    `target    ${plan.target}`,
    `quantize  ${totals.quantize} tensors${inBanks}`,
    `keep      ${totals.keep} tensors`,
  ];
  if (totals.cast > 0) lines.push(`cast      ${totals.cast} tensors`);
  if (totals.remove > 0) lines.push(`remove    ${totals.remove} tensors`);
  for (const lora of loras) lines.push(`merge     ${loraLine(lora)}`);
  lines.push(
    `size      ${formatBytes(totals.inputBytes)} -> ${formatBytes(totals.outputBytes)}` +
      (saved > 0 ? `, ${formatBytes(saved)} saved` : ""),
    ...shardLines(plan),
  );
  const sections = groupPlan(plan);
  const texts = full ? sections.map(everyTensor) : likeTensors(sections, columns);
  sections.forEach((section, i) => {
    const isFirst = i === 0 || actionOf(section) !== actionOf(sections[i - 1]!);
    lines.push(...(isFirst ? [""] : []), ...texts[i]!);
  });
  if (!full) lines.push("", "--dry-run=full lists every tensor");
  return lines;
}

function everyTensor({ title, groups }: GroupSection): string[] {
  const tensors = groups.flatMap((group) => group.tensors);
  return [
    `${visible(title)}: ${tensors.length}`,
    ...tensors.map(({ source: { name, dtype, shape } }) =>
      `  ${visible(name)}  ${dtype} [${shape.join(", ")}]`
    ),
  ];
}

/** Vectors of one section are counted together from this many groups on. */
const MOST_VECTOR_GROUPS = 4;

/** Returns the lines of every section, in columns that all of them share. */
function likeTensors(sections: readonly GroupSection[], columns: number): string[][] {
  const rows = sections.map(rowsOf);
  const width = (key: keyof GroupRow) => Math.max(0, ...rows.flat().map((row) => row[key].length));
  const fixed = 3 + width("count") + 2 + width("what") + 2 + width("size");
  const name = Math.max(MIN_NAME_COLUMNS, Math.min(width("name"), columns - fixed));
  return sections.map(({ title, groups }, i) => [
    `${visible(title)}, ${groups.reduce((total, { tensors }) => total + tensors.length, 0)}:`,
    ...rows[i]!.map((row) =>
      `  ${row.count.padStart(width("count"))} ${shortName(row.name, name).padEnd(name)}  ` +
      `${row.what.padEnd(width("what"))}  ${row.size}`
    ),
  ]);
}

function rowsOf({ groups }: GroupSection): GroupRow[] {
  const vectors = groups.filter(({ tensors }) => tensors[0]!.source.shape.length < 2);
  const isLong = vectors.length > MOST_VECTOR_GROUPS;
  const rows = groups.filter((group) => !isLong || !vectors.includes(group)).map(rowOf);
  if (!isLong) return rows;
  return [...rows, {
    count: `${vectors.flatMap(({ tensors }) => tensors).length} x`,
    name: "vectors: norms, biases, scalars",
    what: [...new Set(vectors.map(({ tensors }) => tensors[0]!.source.dtype))].join(", "),
    size: formatBytes(vectors.reduce((total, { inputBytes }) => total + inputBytes, 0)),
  }];
}

function actionOf({ groups }: GroupSection): string {
  return groups[0]!.tensors[0]!.action;
}

const MIN_NAME_COLUMNS = 20;

interface GroupRow {
  readonly count: string;
  readonly name: string;
  readonly what: string;
  readonly size: string;
}

function rowOf({ name, tensors, inputBytes, outputBytes }: TensorGroup): GroupRow {
  const { action, source: { dtype, shape } } = tensors[0]!;
  const isChanged = action === "quantize" || action === "cast";
  return {
    count: `${tensors.length} x`,
    name: visible(name),
    what: `${dtype} [${shape.join(", ")}]`,
    size: formatBytes(inputBytes) + (isChanged ? ` -> ${formatBytes(outputBytes)}` : ""),
  };
}

/** If the output has several files: how large each is, and what it begins with. */
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
