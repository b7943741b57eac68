/** Which LoRAs each model of a batch gets: the same for all, or by `--lora-mapping` and `--lora-dir`. */

import { existsSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { UsageError } from "../core/errors.ts";
import { readSmallFile } from "../safetensors/small_file.ts";
import {
  type LoraMapping,
  mappingKeyFor,
  modelStem,
  parseLoraMapping,
} from "../lora/lora_mapping.ts";
import type { Parsed } from "./parse.ts";

/** LoRAs by model. */
export interface BatchLoras {
  /** Model path -> LoRAs in the order in which they are merged; null: the command line's, for all. */
  readonly byModel: ReadonlyMap<string, readonly string[]> | null;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Returns the LoRAs of each model. The mapping counts before the folder; an empty list in it means none.
 *
 * @param models paths of the models.
 * @throws UsageError if flags contradict one another, the mapping is wrong, or a LoRA is missing.
 */
export function batchLoras(parsed: Parsed, models: readonly string[]): BatchLoras {
  const mappingPath = parsed.string("lora-mapping");
  const folder = parsed.string("lora-dir");
  if (mappingPath === null && folder === null) return { byModel: null, notes: [] };
  const global = ["merge-lora", "merge-loras"].find((name) => parsed.has(name));
  if (global !== undefined) {
    const own = mappingPath === null ? "lora-dir" : "lora-mapping";
    throw new UsageError(
      `Cannot use --${global} with --${own}: it is merged into every model, the other into some`,
    );
  }
  if (folder !== null && !statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(
      `Cannot read --lora-dir ${JSON.stringify(folder)}: there is no such folder`,
    );
  }
  const mapping = mappingPath === null ? null : readMapping(mappingPath);
  const used = new Set<string>();
  const byModel = new Map<string, readonly string[]>();
  for (const model of models) {
    const key = mapping === null ? null : mappingKeyFor(mapping, basename(model));
    if (mapping !== null && key !== null) {
      used.add(key);
      const paths = mapping.entries.get(key)!;
      byModel.set(model, paths.map((path) => locate(path, { key, mapping, folder })));
    } else if (folder !== null) byModel.set(model, inFolder(folder, model));
  }
  const unused = [...mapping?.entries.keys() ?? []].filter((key) => !used.has(key));
  const notes = unused.map((key) =>
    `entry ${JSON.stringify(key)} of ${
      JSON.stringify(mappingPath)
    } is meant for no model of the batch`
  );
  if ([...byModel.values()].every((loras) => loras.length === 0)) {
    notes.push("no model of the batch gets a LoRA");
  }
  return { byModel, notes };
}

function readMapping(path: string): LoraMapping {
  let bytes: Uint8Array;
  try {
    bytes = readSmallFile(path);
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const why = isMissing ? "there is no such file" : String((cause as Error).message);
    throw new UsageError(`Cannot read LoRA mapping ${JSON.stringify(path)}: ${why}`, { cause });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError(`Cannot read LoRA mapping ${JSON.stringify(path)}: it is not UTF-8`, {
      cause,
    });
  }
  return parseLoraMapping(text, path);
}

/** A relative path is looked for beside the mapping, in `--lora-dir`, and in the working directory. */
function locate(
  path: string,
  { key, mapping, folder }: { key: string; mapping: LoraMapping; folder: string | null },
): string {
  const places = isAbsolute(path)
    ? [path]
    : [join(dirname(mapping.path), path), ...(folder === null ? [] : [join(folder, path)]), path];
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return found;
  throw new UsageError(
    `Cannot merge ${JSON.stringify(path)} of entry ${JSON.stringify(key)} in LoRA mapping ` +
      `${JSON.stringify(mapping.path)}: there is no such file; looked for ` +
      [...new Set(places)].map((place) => JSON.stringify(place)).join(", "),
  );
}

function inFolder(folder: string, model: string): string[] {
  const stem = modelStem(basename(model));
  const found = [`${stem}.safetensors`, `${stem}_lora.safetensors`]
    .map((name) => join(folder, name))
    // If models and LoRAs share a folder, a model is not its own LoRA.
    .find((path) => existsSync(path) && resolve(path) !== resolve(model));
  return found === undefined ? [] : [found];
}
