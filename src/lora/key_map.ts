/**
 * From the names that LoRA files use to the rows of a model's weights. The map is built from the
 * model's own names and the rows of `naming_tables.ts` that apply to them, so that underscored names
 * (`lora_unet_double_blocks_0_img_attn_qkv`) are looked up, never guessed apart.
 */

import { matrixShape } from "../core/shape.ts";
import { layerName } from "../core/layer_name.ts";
import { hasBankShape } from "../core/expert_bank.ts";
import type { TensorInfo, Tensors } from "../core/tensor.ts";
import { type Component, LORA_PREFIXES, MODEL_PREFIXES } from "./key_prefixes.ts";
import type { FusedLayout, NamingTable } from "./naming_table.ts";
import { NAMING_TABLES } from "./naming_tables.ts";

/** Rows of a module's delta that go to rows of one weight. */
export interface Piece {
  readonly weight: TensorInfo;
  /** First row of the weight. */
  readonly rowStart: number;
  readonly rowCount: number;
  /** First row of the module's delta. */
  readonly moduleRowStart: number;
  /** The module's first half of rows goes to the second half of these, and the other way round. */
  readonly swapHalves: boolean;
}

/** The meaning of one name: one piece of a weight, or several weights that it spans. */
export interface Candidate {
  readonly pieces: readonly Piece[];
  /** Rows and columns of a delta that fits. */
  readonly rows: number;
  readonly cols: number;
  /** The text encoder it belongs to, counted from 1; null: none, or unknown. */
  readonly slot: number | null;
  /** Whether the name is the model's own rather than another layout's. */
  readonly native: boolean;
}

/** The part of a pipeline that a LoRA module says it belongs to. */
export interface ModuleScope {
  readonly component: Component | null;
  readonly slot: number | null;
}

/** Result of {@link KeyMap.find}. */
export interface KeyMatch {
  readonly scope: ModuleScope;
  /** Empty if the model has no such layer. */
  readonly candidates: readonly Candidate[];
}

/** Answers what a LoRA's module names mean in one model. */
export interface KeyMap {
  /** Returns the candidates for `moduleKey` (a tensor name without `.lora_A.weight` and the like). */
  find(moduleKey: string): KeyMatch;
  /** Whether the file says that it holds a denoiser, by a prefix of its names. */
  readonly hasDenoiser: boolean;
}

/** Returns `[rows, cols]` of what a LoRA changes: of an expert bank `[E, N, K]` the rows of all experts. */
export function mergedShape(tensor: TensorInfo): [rows: number, cols: number] {
  const { shape } = tensor;
  if (!hasBankShape(tensor)) return matrixShape(shape);
  return [shape[0]! * shape[1]!, shape[2]!];
}

/** Names of one component: as they are, and with underscores for dots. */
class Names {
  readonly dotted = new Map<string, Candidate[]>();
  readonly flat = new Map<string, Candidate[]>();

  add(name: string, candidate: Candidate): boolean {
    const known = this.dotted.get(name);
    // Another layout's name never hides the model's own.
    if (known?.some((c) => c.slot === candidate.slot && (c.native || sameMeaning(c, candidate)))) {
      return false;
    }
    if (known === undefined) this.dotted.set(name, [candidate]);
    else known.push(candidate);
    const flatName = name.replaceAll(".", "_");
    const flat = this.flat.get(flatName);
    if (flat === undefined) this.flat.set(flatName, [candidate]);
    else if (!flat.some((c) => sameMeaning(c, candidate))) flat.push(candidate);
    return true;
  }

  get(name: string): readonly Candidate[] {
    return this.dotted.get(name) ?? (name.includes(".") ? [] : this.flat.get(name) ?? []);
  }
}

/**
 * Returns the key map of a model.
 *
 * @param modelTensors all tensors of the model, under the names of its file.
 */
export function buildKeyMap(modelTensors: Tensors): KeyMap {
  const scopes: Record<Component, Names> = { denoiser: new Names(), text: new Names() };
  const full = new Names();
  /** The model's own layers, by the prefix that was stripped: tables never mix two components. */
  const byPrefix = new Map<string, { scopes: Names[]; layers: [string, Candidate][] }>();

  for (const tensor of modelTensors) {
    if (tensor.name.endsWith(".bias")) continue;
    const place = MODEL_PREFIXES.find(({ prefix }) => tensor.name.startsWith(prefix));
    const candidate = wholeTensor(tensor, place?.slot ?? null);
    full.add(layerName(tensor.name), candidate);
    for (const [name, expert] of expertsOf(layerName(tensor.name), tensor, candidate)) {
      full.add(name, expert);
    }
    if (place?.component === "other") continue;
    const prefix = place?.prefix ?? "";
    let group = byPrefix.get(prefix);
    if (group === undefined) {
      const component = place?.component ?? null;
      group = {
        scopes: component === null ? [scopes.denoiser, scopes.text] : [scopes[component]],
        layers: [],
      };
      byPrefix.set(prefix, group);
    }
    const own = layerName(tensor.name.slice(prefix.length));
    group.layers.push([own, candidate], ...expertsOf(own, tensor, candidate));
  }

  for (const { scopes: targets, layers } of byPrefix.values()) {
    for (const names of targets) { // all own names first: they win over aliases
      for (const [name, candidate] of layers) names.add(name, candidate);
    }
    for (const table of NAMING_TABLES) {
      if (!layers.some(([name]) => table.models.some((start) => `${name}.`.startsWith(start)))) {
        continue;
      }
      for (const [name, candidate] of aliases(table, layers)) {
        for (const names of targets) names.add(name, candidate);
      }
    }
    for (const names of targets) addShortOutputs(names);
  }

  const hasDenoiser = MODEL_PREFIXES.some(({ prefix, component }) =>
    component === "denoiser" && byPrefix.has(prefix)
  );
  return { find: (moduleKey) => find(moduleKey, scopes, full), hasDenoiser };
}

function find(key: string, scopes: Record<Component, Names>, full: Names): KeyMatch {
  let scope: ModuleScope = { component: null, slot: null };
  let rest = key;
  for (;;) {
    const searched = scope.component === null
      ? [full, scopes.denoiser, scopes.text]
      : [full, scopes[scope.component]];
    for (const names of searched) {
      for (const name of [rest, rest.replace(".processor.", ".")]) {
        const candidates = names.get(name);
        if (candidates.length > 0) return { scope, candidates };
      }
    }
    const stripped = LORA_PREFIXES.find(({ prefix }) => rest.startsWith(prefix));
    if (stripped === undefined) return { scope, candidates: [] };
    rest = rest.slice(stripped.prefix.length);
    if (scope.component === null) scope = { component: stripped.component, slot: stripped.slot };
  }
}

function wholeTensor(weight: TensorInfo, slot: number | null): Candidate {
  const [rows, cols] = mergedShape(weight);
  const piece = { weight, rowStart: 0, rowCount: rows, moduleRowStart: 0, swapHalves: false };
  return { pieces: [piece], rows, cols, slot, native: true };
}

/**
 * Returns the names that LoRAs of single experts have, `P.X.3` and `P.3.X` of a bank `P.X`, and the rows that
 * they mean; none for tensors that are no banks.
 */
function expertsOf(name: string, weight: TensorInfo, whole: Candidate): [string, Candidate][] {
  if (!hasBankShape(weight)) return [];
  const [experts = 0, rows = 0] = weight.shape, dot = name.lastIndexOf(".");
  const numbers = Array.from({ length: experts }, (_, expert) => expert);
  return numbers.flatMap((expert): [string, Candidate][] => {
    const piece = { ...whole.pieces[0]!, rowStart: expert * rows, rowCount: rows };
    const candidate = { ...whole, pieces: [piece], rows };
    return [
      [`${name}.${expert}`, candidate],
      [`${name.slice(0, dot + 1)}${expert}.${name.slice(dot + 1)}`, candidate],
    ];
  });
}

function sameMeaning(a: Candidate, b: Candidate): boolean {
  return a.pieces.length === b.pieces.length && a.pieces.every((piece, i) => {
    const other = b.pieces[i]!;
    return piece.weight.name === other.weight.name && piece.rowStart === other.rowStart &&
      piece.rowCount === other.rowCount && piece.swapHalves === other.swapHalves;
  });
}

/** `...to_out.0` is also known as `...to_out`: the 0 is a container of the oldest diffusers. */
function addShortOutputs(names: Names): void {
  for (const [name, candidates] of [...names.dotted]) {
    if (!name.endsWith(".to_out.0")) continue;
    for (const candidate of candidates) {
      names.add(name.slice(0, -".0".length), { ...candidate, native: false });
    }
  }
}

/** How a name that a rule makes relates to the name it was made from. */
type Relation =
  | { readonly kind: "same" | "swapped" | "swappedIfPair" }
  /** Part `index` of a fused weight. */
  | { readonly kind: "part"; readonly layout: FusedLayout; readonly index: number }
  /** The fused weight of which the matched name is part `index`. */
  | { readonly kind: "whole"; readonly row: number; readonly index: number };

interface Rule {
  readonly from: RegExp;
  readonly to: string;
  readonly relation: Relation;
}

/** Returns every further name of the layers, with what it means, by the rows of one table. */
function aliases(
  table: NamingTable,
  layers: readonly (readonly [string, Candidate])[],
): [string, Candidate][] {
  const rules = compile(table);
  const seen = new Set(layers.map(([name]) => name));
  const found: [string, Candidate][] = [];
  const queue = [...layers];
  const wholes = new Map<string, (Candidate | undefined)[]>();
  // A row may lead from another row's result (ComfyUI's spelling -> Tencent's -> diffusers').
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [name, candidate] = next;
    for (const rule of rulesFor(rules, name)) {
      const match = rule.from.exec(name);
      if (match === null) continue;
      const alias = fill(rule.to, match);
      const meaning = rule.relation.kind === "whole"
        ? joinPart(wholes, { alias, candidate, ...rule.relation }, table)
        : transform(candidate, rule.relation);
      if (meaning === null || seen.has(alias)) continue;
      seen.add(alias);
      found.push([alias, meaning]);
      queue.push([alias, meaning]);
    }
  }
  return found;
}

function transform(
  candidate: Candidate,
  relation: Exclude<Relation, { kind: "whole" }>,
): Candidate | null {
  if (relation.kind === "same") return { ...candidate, native: false };
  if (relation.kind === "part" && candidate.pieces.length === PART_COUNTS[relation.layout]) {
    const own = candidate.pieces[relation.index]!; // the model itself stores the parts apart
    return {
      ...candidate,
      native: false,
      rows: own.rowCount,
      pieces: [{ ...own, moduleRowStart: 0 }],
    };
  }
  const [piece, ...others] = candidate.pieces;
  if (piece === undefined || others.length > 0 || piece.swapHalves) return null;
  if (relation.kind === "part") {
    const sizes = partSizes(relation.layout, candidate.rows, candidate.cols);
    if (sizes === null) return null;
    const before = sizes.slice(0, relation.index).reduce((sum, size) => sum + size, 0);
    const rowCount = sizes[relation.index]!;
    return {
      ...candidate,
      native: false,
      rows: rowCount,
      pieces: [{ ...piece, rowStart: piece.rowStart + before, rowCount }],
    };
  }
  const swaps = relation.kind === "swapped" || candidate.rows === 2 * candidate.cols;
  if (swaps && candidate.rows % 2 !== 0) return null;
  return { ...candidate, native: false, pieces: [{ ...piece, swapHalves: swaps }] };
}

const PART_COUNTS: Readonly<Record<FusedLayout, number>> = { qkv: 3, qkvMlp: 4 };

/** Returns the row counts of the parts of a fused weight, or null if it cannot be cut so. */
function partSizes(layout: FusedLayout, rows: number, cols: number): number[] | null {
  if (layout === "qkvMlp") {
    return rows > 3 * cols ? [cols, cols, cols, rows - 3 * cols] : null;
  }
  const rest = rows - cols; // fewer key and value heads make the shares smaller, never unequal
  return rest > 0 && rest % 2 === 0 ? [cols, rest / 2, rest / 2] : null;
}

/** Collects the parts of a weight that the model stores apart; complete, they are a meaning. */
function joinPart(
  wholes: Map<string, (Candidate | undefined)[]>,
  part: { alias: string; candidate: Candidate; row: number; index: number },
  table: NamingTable,
): Candidate | null {
  const key = `${part.row} ${part.alias}`;
  const parts = wholes.get(key) ??
    new Array<Candidate | undefined>(table.fused[part.row]!.parts.length).fill(undefined);
  wholes.set(key, parts);
  parts[part.index] = part.candidate;
  const pieces: Piece[] = [];
  let rows = 0;
  for (const candidate of parts) {
    const piece = candidate?.pieces[0];
    if (candidate === undefined || piece === undefined || candidate.pieces.length > 1) return null;
    if (candidate.cols !== part.candidate.cols) return null;
    pieces.push({ ...piece, moduleRowStart: rows });
    rows += piece.rowCount;
  }
  return { pieces, rows, cols: part.candidate.cols, slot: part.candidate.slot, native: false };
}

/** Rules by the first segment of the names they match; `""`: any. */
type Rules = ReadonlyMap<string, readonly Rule[]>;

function rulesFor(rules: Rules, name: string): readonly Rule[] {
  const first = name.split(".", 1)[0]!;
  return [...rules.get(first) ?? [], ...rules.get("") ?? []];
}

function compile(table: NamingTable): Rules {
  const rules = new Map<string, Rule[]>();
  const add = (from: string, to: string, relation: Relation) => {
    const first = from.split(".", 1)[0]!;
    const bucket = first.includes("{") ? "" : first;
    const list = rules.get(bucket) ?? [];
    rules.set(bucket, list);
    list.push({ from: templatePattern(from), to, relation });
  };
  const both = (row: readonly [string, string], kind: "same" | "swapped" | "swappedIfPair") => {
    add(row[0], row[1], { kind });
    add(row[1], row[0], { kind });
  };
  for (const row of table.renamed) both(row, "same");
  for (const row of table.swapped) both(row, "swapped");
  for (const row of table.swappedIfPair ?? []) both(row, "swappedIfPair");
  table.fused.forEach(({ native, layout, parts }, row) => {
    parts.forEach((part, index) => {
      add(native, part, { kind: "part", layout, index });
      add(part, native, { kind: "whole", row, index });
    });
  });
  return rules;
}

/** `a.{i}.b` -> a pattern that captures what the placeholders stand for, in order. */
function templatePattern(template: string): RegExp {
  const source = template.split(/(\{[i*]\})/).map((part) => {
    if (part === "{i}") return "(\\d+)";
    if (part === "{*}") return "(.+)";
    return part.replaceAll(".", "\\.");
  });
  return new RegExp(`^${source.join("")}$`);
}

function fill(template: string, match: RegExpExecArray): string {
  let group = 0;
  return template.replaceAll(/\{[i*]\}/g, () => match[++group]!);
}
