/** The tensors of a plan in groups of like layers: the same place in every block, dtype, shape and fate. */

import type { Plan, PlannedTensor } from "../plan/plan.ts";
import { isIndex } from "../presets/names.ts";

/** Tensors of a plan that differ in their block number only. */
export interface TensorGroup {
  /** The common name, `N` for the number: `double_blocks.N.img_attn.qkv.weight`. */
  readonly name: string;
  readonly tensors: readonly PlannedTensor[];
  readonly inputBytes: number;
  /** Of the tensors themselves and, if they are quantized, their scales. */
  readonly outputBytes: number;
}

/** Groups that share what happens to them and why. */
export interface GroupSection {
  readonly title: string;
  readonly groups: readonly TensorGroup[];
}

/** Returns a tensor's name with `N` for the number of its block and of its expert. Pure. */
export function blockName(name: string): string {
  const segments = name.split(".");
  const last = segments.length - 2;
  const block = segments.findIndex((segment, i) => i > 0 && i < last && isIndex(segment));
  return segments.map((segment, i) => {
    const isExpert = isIndex(segment) && segments[i - 1] === "experts";
    return i === block || isExpert ? "N" : segment;
  }).join(".");
}

/** Returns the sections in the order of the input, quantized tensors first. Pure. */
export function groupPlan(plan: Plan): GroupSection[] {
  const bytes = outputBytesOf(plan);
  const sections = new Map<string, Map<string, PlannedTensor[]>>();
  for (const tensor of plan.tensors) {
    const title = titleOf(tensor);
    const { name, dtype, shape } = tensor.source;
    const key = JSON.stringify([blockName(name), dtype, shape]);
    const groups = sections.get(title) ?? new Map<string, PlannedTensor[]>();
    sections.set(title, groups.set(key, [...groups.get(key) ?? [], tensor]));
  }
  return [...sections].map(([title, groups]) => ({
    title,
    groups: [...groups.values()].map((tensors) => ({
      name: tensors.length === 1 ? tensors[0]!.source.name : blockName(tensors[0]!.source.name),
      tensors,
      inputBytes: sum(tensors, ({ source }) => source.byteLength),
      outputBytes: sum(tensors, ({ source }) => bytes.get(source.name) ?? 0),
    })),
  })).sort((a, b) => rank(a) - rank(b));
}

/** Returns what happens to a tensor, and why: `quantize (int8_tensorwise, row, convrot 256; matrix)`. */
function titleOf({ action, reason, scheme }: PlannedTensor): string {
  if (scheme === null) return `${action} (${reason})`;
  const convrot = scheme.convrotGroupSize === null ? "" : `, convrot ${scheme.convrotGroupSize}`;
  return `${action} (${scheme.format}, ${scheme.scaling.kind}${convrot}; ${reason})`;
}

const RANKS = ["quantize", "cast", "keep", "remove"];

function rank({ groups }: GroupSection): number {
  return RANKS.indexOf(groups[0]!.tensors[0]!.action);
}

/** Bytes of the output by the input tensor that they are made of. */
function outputBytesOf({ outputs }: Plan): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const { content, byteLength } of outputs) {
    if (content.kind === "inline") continue;
    const { name } = content.source;
    bytes.set(name, (bytes.get(name) ?? 0) + byteLength);
  }
  return bytes;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
