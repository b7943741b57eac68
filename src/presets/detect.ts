/**
 * Says from a header alone what a file is: a model of a known family, a model in the diffusers
 * layout, a LoRA, or something unknown. Names decide, and shapes if two families share all names.
 */

import type { TensorInfo, Tensors } from "../core/tensor.ts";
import { DIFFUSERS_LAYOUTS } from "./diffusers_layouts.ts";
import { isAdapterCompanion, isAdapterKey } from "./lora_keys.ts";
import { MODEL_PREFIXES, TELLING_PREFIXES } from "./names.ts";
import type { Detection, DetectRule } from "./preset.ts";
import { listFamilies } from "./registry.ts";
import { stacksOf } from "./stacks.ts";
import { CONTROLNET_KEYS } from "./unusable.ts";

/** A file is an adapter from this share of adapter tensors on; some models carry a few. */
const ADAPTER_SHARE = 0.5;

/** As many names as a person wants to read. */
const MAX_EVIDENCE = 4;

/** Below this a prefix is an accident, not a model. */
const MIN_PREFIXED = 6;

/** The name in a place of a size: `name[axis]`. */
function nameOfPlace(place: string): string {
  return place.slice(0, place.lastIndexOf("["));
}

/** Names and paths that a rule looks for. */
function keysOf({ all = [], any = [], not = [], shape = {}, notShape = [] }: DetectRule): string[] {
  const places = [shape, ...notShape].flatMap((sizes) => Object.keys(sizes));
  return [...all, ...any, ...not, ...places.map(nameOfPlace)];
}

/** All that any rule looks for: a model may have a million names, of which hardly one is among them. */
function lookedFor(): ReadonlySet<string> {
  const rules = [...listFamilies().map(({ detect }) => detect), ...DIFFUSERS_LAYOUTS];
  return new Set([...CONTROLNET_KEYS, ...rules.flatMap(keysOf)]);
}

/** How many marks there are. */
const MARKS = 1 << 16;

/** Returns a number by the length of a piece of a text, its first and its last character. */
function markOf(text: string, begin: number, end: number): number {
  return (961 * (end - begin) + 31 * text.charCodeAt(begin) + text.charCodeAt(end - 1)) % MARKS;
}

/** Those names of a model behind one prefix that rules look for. */
class NameIndex {
  readonly #tensors = new Map<string, TensorInfo>();
  /** Names and paths up to a dot -> the first full name below. */
  readonly #paths = new Map<string, string>();
  readonly prefix: string;
  readonly #keys: ReadonlySet<string>;
  /** By the mark of a path, whether a key has it: most paths need no copy to be looked for. */
  readonly #marks = new Uint8Array(MARKS);
  /** How many names begin with the prefix. */
  size = 0;

  constructor(prefix: string, keys: ReadonlySet<string>) {
    this.prefix = prefix;
    this.#keys = keys;
    for (const key of keys) this.#marks[markOf(key, 0, key.length)] = 1;
  }

  /** Takes a tensor if its name begins with the prefix. */
  add(tensor: TensorInfo): void {
    const { name } = tensor, start = this.prefix.length, marks = this.#marks;
    if (!name.startsWith(this.prefix)) return;
    this.size++;
    for (let dot = name.indexOf(".", start); dot >= 0; dot = name.indexOf(".", dot + 1)) {
      if (marks[markOf(name, start, dot)] !== 1) continue;
      const path = name.slice(start, dot);
      if (this.#keys.has(path) && !this.#paths.has(path)) this.#paths.set(path, name);
    }
    if (marks[markOf(name, start, name.length)] !== 1) return;
    const own = name.slice(start);
    if (!this.#keys.has(own)) return;
    this.#tensors.set(own, tensor);
    this.#paths.set(own, name);
  }

  /** The full name of a tensor that satisfies `key`, or undefined. */
  find(key: string): string | undefined {
    return this.#paths.get(key);
  }

  /** Whether every `name[axis]` of `sizes` has that size. */
  hasSizes(sizes: Readonly<Record<string, number>>): boolean {
    return Object.entries(sizes).every(([place, size]) => {
      const name = nameOfPlace(place), tensor = this.#tensors.get(name);
      return tensor?.shape[Number(place.slice(name.length + 1, -1))] === size;
    });
  }

  /** The names that satisfy `rule`, or null if it does not hold. */
  match(rule: DetectRule): string[] | null {
    const all = (rule.all ?? []).map((key) => this.find(key));
    if (all.includes(undefined)) return null;
    const any = (rule.any ?? []).map((key) => this.find(key)).filter((name) => name !== undefined);
    if (rule.any !== undefined && any.length === 0) return null;
    if ((rule.not ?? []).some((key) => this.find(key) !== undefined)) return null;
    if (rule.shape !== undefined && !this.hasSizes(rule.shape)) return null;
    if ((rule.notShape ?? []).some((sizes) => this.hasSizes(sizes))) return null;
    return [...new Set([...all, ...any] as string[])].slice(0, MAX_EVIDENCE);
  }
}

/**
 * Returns what a file with these tensors is.
 *
 * A LoRA is recognised first, then ControlNets (unknown: no quantized path), then the families in
 * registry order and the diffusers layouts, each behind every known prefix. Tensors of an already
 * quantized model (`weight_scale`, `comfy_quant`, ...) do not disturb.
 */
export function detect(tensors: Tensors): Detection {
  const adapter = adapterEvidence(tensors);
  if (adapter !== null) {
    return found(tensors, { family: null, prefix: "", layout: "lora", evidence: adapter });
  }
  // A prefix counts only if something matches behind it, so `model.` can be tried before the bare
  // names although text encoders' own names start with it.
  const keys = lookedFor();
  const all = [...MODEL_PREFIXES, ""].map((prefix) => new NameIndex(prefix, keys));
  for (const tensor of tensors) for (const index of all) index.add(tensor);
  const indexes = all.filter(({ size }) => size > 0);

  for (const index of indexes) {
    const { prefix } = index;
    const evidence = controlNetEvidence(index);
    if (evidence !== null) {
      return found(tensors, { family: null, prefix, layout: "unknown", evidence });
    }
  }
  for (const index of indexes) {
    const { prefix } = index;
    for (const family of listFamilies()) {
      const evidence = index.match(family.detect);
      if (evidence !== null) {
        return found(tensors, { family: family.id, prefix, layout: "native", evidence });
      }
    }
  }
  for (const index of indexes) {
    const { prefix } = index;
    for (const layout of DIFFUSERS_LAYOUTS) {
      const evidence = index.match(layout);
      if (evidence !== null) {
        return found(tensors, { family: null, prefix, layout: "diffusers", evidence });
      }
    }
  }
  const prefix =
    indexes.find(({ prefix, size }) => TELLING_PREFIXES.includes(prefix) && size >= MIN_PREFIXED)
      ?.prefix ?? "";
  return found(tensors, { family: null, prefix, layout: "unknown", evidence: [] });
}

function found(tensors: Tensors, what: Omit<Detection, "stacks">): Detection {
  return { ...what, stacks: stacksOf(tensors, what.prefix) };
}

/** Names of adapter tensors if they make up most of the file, else null. */
function adapterEvidence(tensors: Tensors): string[] | null {
  const keys = tensors.filter(({ name }) => isAdapterKey(name));
  if (keys.length === 0) return null;
  const companions = tensors.filter(({ name }) => !isAdapterKey(name) && isAdapterCompanion(name));
  if (keys.length + companions.length < ADAPTER_SHARE * tensors.length) return null;
  return keys.slice(0, 2).map(({ name }) => name);
}

function controlNetEvidence(index: NameIndex): string[] | null {
  const name = CONTROLNET_KEYS.map((key) => index.find(key)).find((match) => match !== undefined);
  return name === undefined ? null : [name];
}
