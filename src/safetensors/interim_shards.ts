/**
 * Replacing shards by others of the same names, so that at every moment an index is in place whose shards
 * are those of one model. The new shards get second names first (hard links), an index of those takes the
 * place of the old one, then the shards get their own names, and the index of these follows. Every step is
 * one rename; a process that is killed on the way leaves a whole model, and the next run does the rest.
 */

import { linkSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { codeOf, explained } from "./io_error.ts";
import { hiddenName, OutputFile } from "./output_file.ts";
import { readSmallFile } from "./small_file.ts";
import { parseIndex } from "./shards.ts";

const ENDING = ".safetensors";
const INTERIM_ENDING = `.new${ENDING}`;

/** Codes of file systems that know no hard links, or refuse these. */
const NO_LINKS = new Set([
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
  "EMLINK",
  "EINVAL",
  "EACCES",
]);

/** Returns the second name of a shard. */
export function interimName(path: string): string {
  return hiddenName(path.slice(0, -ENDING.length), INTERIM_ENDING);
}

/**
 * Gives files their second names. Returns false if the file system knows no hard links; nothing is left then.
 *
 * @throws Error if it fails otherwise.
 */
export function linkInterim(
  files: readonly { readonly path: string; readonly partialPath: string }[],
): boolean {
  const made: string[] = [];
  try {
    for (const { path, partialPath } of files) {
      const interim = interimName(path);
      rmSync(interim, { force: true });
      linkSync(partialPath, interim);
      made.push(interim);
    }
    return true;
  } catch (error) {
    for (const interim of made) rmSync(interim, { force: true });
    if (NO_LINKS.has(codeOf(error) ?? "")) return false;
    throw error;
  }
}

/** Removes second names, if they are there. */
export function removeInterim(paths: readonly string[]): void {
  for (const path of paths) rmSync(interimName(path), { force: true });
}

/**
 * Does what a killed process did not come to after its shards were in place under their second names.
 * Returns whether there was anything; call it under the lock of the output.
 *
 * @param indexPath of the index, which need not be there.
 */
export function finishInterim(indexPath: string): boolean {
  const map = interimMap(indexPath);
  if (map === null) {
    sweepInterim(indexPath);
    return false;
  }
  const folder = dirname(indexPath);
  explained(`Cannot finish replacing ${JSON.stringify(indexPath)}`, () => {
    for (const [interim, own] of map.files) {
      const step = hiddenName(join(folder, own), ".partial");
      rmSync(step, { force: true });
      linkSync(join(folder, interim), step);
      renameSync(step, join(folder, own));
      // Nothing is renamed if both are names of one file.
      rmSync(step, { force: true });
    }
    const bytes = new TextEncoder().encode(map.text);
    const partial = { path: hiddenName(indexPath, ".partial"), reuse: false };
    using index = OutputFile.create(indexPath, {
      header: bytes,
      totalBytes: bytes.length,
      force: true,
      partial,
    });
    index.commit();
    for (const interim of map.files.keys()) rmSync(join(folder, interim), { force: true });
  });
  return true;
}

/** The second names in an index with the names they stand for, and the index of these; null: it has none. */
function interimMap(
  indexPath: string,
): { files: ReadonlyMap<string, string>; text: string } | null {
  let text: string;
  try {
    text = new TextDecoder().decode(readSmallFile(indexPath));
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
  const isInterim = isInterimOf(indexPath);
  let weights: ReadonlyMap<string, string>;
  try {
    weights = parseIndex(new TextEncoder().encode(text), indexPath).weightMap;
  } catch {
    return null; // no index: whoever opens it says so
  }
  const files = new Map<string, string>();
  for (const name of weights.values()) {
    if (isInterim(name)) files.set(name, `${name.slice(1, -INTERIM_ENDING.length)}${ENDING}`);
  }
  if (files.size === 0) return null;
  const index = JSON.parse(text);
  for (const [tensor, name] of weights) index.weight_map[tensor] = files.get(name) ?? name;
  return { files, text: `${JSON.stringify(index, null, 2)}\n` };
}

/** Removes second names that no index names: their process was killed before it came to that. */
function sweepInterim(indexPath: string): void {
  const isInterim = isInterimOf(indexPath);
  for (const name of readdirSync(dirname(indexPath))) {
    if (isInterim(name)) rmSync(join(dirname(indexPath), name), { force: true });
  }
}

/** Returns whether a name is a second one of a shard of this index. */
export function isInterimOf(indexPath: string): (name: string) => boolean {
  const stem = `.${basename(indexPath).replace(/\.safetensors\.index\.json$/, "")}`;
  return (name) =>
    name.startsWith(stem) && /^-\d{5,}-of-\d{5,}\.new\.safetensors$/.test(name.slice(stem.length));
}
