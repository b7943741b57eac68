/**
 * The leftovers of an output in shards if another one with another number of shards takes its name:
 * files that no index names any more. The old index names them, and nothing else is removed.
 *
 * A copy of the old index lies beside it until its shards are gone, so that a run that is killed in between
 * leaves to the next one what it did not come to.
 */

import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { InputPath } from "../remote/input_path.ts";
import { codeOf, explained, ioReason } from "./io_error.ts";
import { readSmallFile } from "./small_file.ts";
import { hiddenName, isInput } from "./output_file.ts";
import { type OutputNames, outputNames } from "./shard_layout.ts";
import { parseIndex } from "./shards.ts";
import { writeExactly } from "./write_exactly.ts";

/** Shards of a replaced output, by name. */
export interface ReplacedShards {
  /** Those that only the replaced index named. */
  readonly removed: readonly string[];
  /** Those that are there still, and why. */
  readonly left: readonly { readonly name: string; readonly why: string }[];
}

/** Returns the names of the shards of an index, each once; null if there is none that can be read. */
export function shardsOf(indexPath: string): readonly string[] | null {
  let bytes: Uint8Array;
  try {
    bytes = readSmallFile(indexPath);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw new Error(`Cannot read ${JSON.stringify(indexPath)}: ${ioReason(error)}`, {
      cause: error,
    });
  }
  try {
    return parseIndex(bytes, indexPath).files;
  } catch (error) {
    // Replaced like any other file: it names nothing that could be removed.
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/**
 * Refuses to replace an index whose shards are read: they would be left without it, or be removed.
 *
 * @throws UnsupportedError naming both.
 */
export function refuseInputShards(indexPath: string, inputs: readonly InputPath[]): void {
  for (const path of [indexPath, copyOf(indexPath)]) {
    for (const name of shardsOf(path) ?? []) {
      if (!isInput(join(dirname(indexPath), name), inputs)) continue;
      throw new UnsupportedError(
        `Cannot write ${JSON.stringify(indexPath)}: it is the index of the input ${
          JSON.stringify(name)
        }; name another output`,
      );
    }
  }
}

/** Path of the copy of a replaced index. */
function copyOf(indexPath: string): string {
  return hiddenName(indexPath, ".replaced");
}

/**
 * Keeps what the index at `indexPath` says, durable, before it is replaced; what an earlier run kept and did
 * not come to is done with first, and returned. Nothing to do if there is no index.
 */
export function keepReplaced(indexPath: string): ReplacedShards {
  const earlier = removeReplaced(indexPath);
  if (shardsOf(indexPath) === null) return earlier;
  explained(`Cannot replace ${JSON.stringify(indexPath)}`, () => {
    const copy = copyOf(indexPath);
    rmSync(copy, { force: true }); // never through a link
    const fd = openSync(copy, "wx");
    try {
      writeExactly(fd, readFileSync(indexPath), 0);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  });
  return earlier;
}

/**
 * Takes back {@link keepReplaced} if nothing came of the replacement.
 *
 * @param isWhole whether all shards of the old index are as they were: it is put back if it is gone.
 */
export function restoreReplaced(indexPath: string, { isWhole }: { isWhole: boolean }): void {
  const copy = copyOf(indexPath);
  if (existsSync(indexPath)) rmSync(copy, { force: true });
  else if (isWhole && existsSync(copy)) renameSync(copy, indexPath);
}

/**
 * Removes the shards that the kept index names and the one in place does not, if they have the names that
 * this program gives. Does nothing if no index is in place. A shard that cannot be removed is reported, not
 * thrown: the output is complete.
 */
export function removeReplaced(indexPath: string): ReplacedShards {
  const copy = copyOf(indexPath);
  const current = shardsOf(indexPath), kept = shardsOf(copy);
  const removed: string[] = [], left: { name: string; why: string }[] = [];
  if (current === null || kept === null) return { removed, left };
  const stays = new Set(current.map((name) => name.toLowerCase())); // as disks may not tell them apart
  for (const name of kept) {
    if (stays.has(name.toLowerCase())) continue;
    const path = join(dirname(indexPath), name);
    const entry = lstatSync(path, { throwIfNoEntry: false });
    if (entry === undefined) continue;
    if (!isShardName(name, indexPath)) left.push({ name, why: "its name is of another model" });
    else if (entry.isDirectory()) left.push({ name, why: "it is a folder" });
    else {
      try {
        rmSync(path);
        removed.push(name);
      } catch (error) {
        left.push({ name, why: ioReason(error) });
      }
    }
  }
  rmSync(copy, { force: true });
  return { removed, left };
}

/** Whether `name` is one that `outputNames` gives a shard of this index. */
function isShardName(name: string, indexPath: string): boolean {
  const stem = basename(indexPath).replace(/\.safetensors\.index\.json$/, "");
  return name.startsWith(stem) && /^-\d{5,}-of-\d{5,}\.safetensors$/.test(name.slice(stem.length));
}

/**
 * Says that a model of the same name in the other form, one file or shards, stays beside an output; null:
 * there is none, or it is read.
 */
export function besideNote(
  { main, index }: OutputNames,
  inputs: readonly InputPath[],
): string | null {
  const other = outputNames(main, index === null ? 2 : 1).main;
  const files = index === null
    ? shardsOf(other)?.map((name) => join(dirname(other), name)) ?? []
    : [other].filter((path) => existsSync(path));
  if (files.length === 0 || files.some((path) => isInput(path, inputs))) return null;
  return `${JSON.stringify(other)} stays beside the output, and loaders may take it instead; ` +
    "remove it if it is no longer wanted";
}
