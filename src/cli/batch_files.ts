/** The models of a batch: what its inputs and its folder stand for. */

import { RUN_DEFAULTS } from "../plan/options.ts";
import { readdirSync, statSync } from "node:fs";
import { basename, dirname, join, matchesGlob, resolve } from "node:path";
import { UsageError } from "../core/errors.ts";
import { displayName, isRemote } from "../remote/location.ts";
import { readSmallFile } from "../safetensors/small_file.ts";
import { isIndexName, parseIndex } from "../safetensors/shards.ts";
import type { Parsed } from "./parse.ts";

const MODELS = RUN_DEFAULTS.batchPattern;

/**
 * Returns the paths of the models that a command line names, each once, in the order they are named;
 * those of a folder by name. A folder stands for the files in it that match `--pattern`; shards with an
 * index are one model, named by the index. Hidden files and subfolders are not looked at.
 *
 * @throws UsageError if nothing is named, something named is missing, or nothing matches.
 */
export function batchFiles(parsed: Parsed): string[] {
  const words = [...parsed.list("inputs"), ...parsed.positionals];
  const folder = parsed.string("directory");
  const pattern = parsed.string("pattern") ?? MODELS;
  if (words.length === 0 && folder === null) {
    throw new UsageError(
      "Missing models: `quantsmith batch FILE...` or `quantsmith batch -d DIR`; see --help",
    );
  }
  const found = [
    ...words.flatMap((word) => filesOfWord(word, pattern)),
    ...(folder === null ? [] : modelsIn(folder, pattern)),
  ];
  const unique = new Map(found.map((path) => [resolve(path), path]));
  return [...unique.values()];
}

function filesOfWord(word: string, pattern: string): string[] {
  const stats = statSync(word, { throwIfNoEntry: false });
  if (stats?.isDirectory()) return modelsIn(word, pattern);
  // Shells of Windows leave patterns to the program; an existing name is never one.
  if (stats === undefined && !isRemote(word) && /[*?]/.test(basename(word))) {
    return modelsIn(dirname(word), basename(word));
  }
  if (isRemote(word)) {
    throw new UsageError(
      `Cannot convert ${JSON.stringify(displayName(word))} in a batch: models on servers are ` +
        "converted one by one, without `batch`",
    );
  }
  if (stats === undefined) {
    throw new UsageError(`Cannot convert ${JSON.stringify(word)}: there is no such file`);
  }
  return [word];
}

function modelsIn(folder: string, pattern: string): string[] {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`Cannot read the folder ${JSON.stringify(folder)}: there is none`);
  }
  const names = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith("."))
    .map(({ name }) => name).sort();
  const indexes = names.filter(isIndexName);
  const shards = new Set(indexes.flatMap((name) => shardsOf(join(folder, name))));
  const models = names.filter((name) =>
    isIndexName(name)
      ? matchesGlob(name, pattern) ||
        matchesGlob(name.replace(/\.index(\.[\w-]+)?\.json$/, ""), pattern)
      : !shards.has(name) && matchesGlob(name, pattern)
  );
  if (models.length === 0) {
    throw new UsageError(
      `Cannot find models: no file of ${JSON.stringify(folder)} matches ${JSON.stringify(pattern)}`,
    );
  }
  return models.map((name) => join(folder, name));
}

function shardsOf(indexPath: string): readonly string[] {
  return parseIndex(readSmallFile(indexPath), indexPath).files;
}
