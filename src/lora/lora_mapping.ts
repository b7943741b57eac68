/**
 * Which LoRAs are merged into which model of a batch: a JSON object of model names to one path or
 * several. A key is the file name of a model, its name without the ending, or a part of it between
 * `.`, `_` and `-`; keys that begin with `_` are comments. Pure.
 */

import * as v from "valibot";
import { UsageError } from "../core/errors.ts";
import { isJsonObject, JsonError, parseJsonStrict } from "../core/json.ts";

/** A mapping, checked. */
export interface LoraMapping {
  /** For messages. */
  readonly path: string;
  /** Model name or part of it -> paths as written, in the order in which they are merged. */
  readonly entries: ReadonlyMap<string, readonly string[]>;
}

const PathSchema = v.pipe(v.string(), v.nonEmpty());
const LorasSchema = v.union([PathSchema, v.array(PathSchema)]);

/**
 * Returns the mapping of a JSON text.
 *
 * @param path for messages.
 * @throws UsageError if it is not strict JSON of the shape above; it names file and entry.
 *
 * @example
 * ```ts
 * import { parseLoraMapping } from "./lora_mapping.ts";
 * const { entries } = parseLoraMapping('{"flux": ["a.safetensors"], "_note": 1}', "m.json");
 * if (entries.size !== 1) throw new Error("unreachable");
 * ```
 */
export function parseLoraMapping(text: string, path: string): LoraMapping {
  const refuse = (why: string, cause?: unknown) =>
    new UsageError(`Cannot read LoRA mapping ${JSON.stringify(path)}: ${why}`, { cause });
  if (text.startsWith("\ufeff")) throw refuse("it begins with a byte order mark; save it without");
  let value: unknown;
  try {
    value = parseJsonStrict(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw refuse(error.message, error);
  }
  if (!isJsonObject(value)) {
    throw refuse('it is no object of model names to LoRA files: {"model": "lora.safetensors"}');
  }
  const entries = new Map<string, readonly string[]>();
  for (const [key, loras] of Object.entries(value)) {
    if (key.startsWith("_")) continue;
    const place = `entry ${JSON.stringify(key)}`;
    if (key === "") throw refuse(`${place} is empty; it names a model`);
    const checked = v.safeParse(LorasSchema, loras);
    if (!checked.success) {
      throw refuse(`${place} is ${shown(loras)}; it takes the path of a LoRA, or a list of paths`);
    }
    entries.set(key, typeof checked.output === "string" ? [checked.output] : checked.output);
  }
  return { path, entries };
}

/**
 * Returns the entry that is meant for a model: its file name, else its name without the ending, else
 * the longest that stands in it between delimiters (`flux` in `my_flux-dev`; `v1` not in `v10`); of
 * equals, the first. Null if none is.
 *
 * @param fileName file name of the model, without its folder.
 */
export function mappingKeyFor({ entries }: LoraMapping, fileName: string): string | null {
  const stem = modelStem(fileName);
  for (const exact of [fileName, stem]) if (entries.has(exact)) return exact;
  let best: string | null = null;
  for (const key of entries.keys()) {
    const isLonger = best === null || key.length > best.length;
    if (isLonger && (standsIn(stem, key) || standsIn(fileName, key))) best = key;
  }
  return best;
}

/** Returns the name of a model without `.safetensors` or `.safetensors.index.json`. */
export function modelStem(fileName: string): string {
  return fileName.replace(/\.safetensors(\.index(\.[\w-]+)?\.json)?$/i, "");
}

function standsIn(name: string, part: string): boolean {
  for (let at = name.indexOf(part); at >= 0; at = name.indexOf(part, at + 1)) {
    const before = name[at - 1] ?? ".";
    const after = name[at + part.length] ?? ".";
    if ("._-".includes(before) && "._-".includes(after)) return true;
  }
  return false;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`;
}
