/**
 * The hidden files beside an output while it is written: partial files, a journal, a lock. All names follow
 * from that of the output, so that the next run of the same name finds what a killed one left.
 */

import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { UnsupportedError } from "../core/errors.ts";
import { explained } from "./io_error.ts";
import { removeJournal } from "./journal_file.ts";
import { finishInterim, isInterimOf } from "./interim_shards.ts";
import { checkOutputPath, hiddenName } from "./output_file.ts";
import { type LockTimes, OutputLock } from "./output_lock.ts";
import { OutputSet } from "./output_set.ts";
import { removeReplaced } from "./replaced_shards.ts";
import { type OutputNames, outputNames } from "./shard_layout.ts";

/** Paths of everything that belongs to an output. */
export interface WorkPaths extends OutputNames {
  readonly partial: (file: string) => string;
  readonly lock: string;
  readonly journal: string;
}

/** Returns the paths of an output of `count` files. */
export function workPaths(path: string, count: number): WorkPaths {
  const names = outputNames(path, count);
  return {
    ...names,
    partial: (file) => hiddenName(file, ".partial"),
    lock: hiddenName(names.main, ".lock"),
    journal: hiddenName(names.main, ".journal"),
  };
}

/**
 * Does what a process that was killed while it gave names, or after, did not come to: shards under their
 * second names get their own, shards that no index names become partial files again, and the journal and
 * the lock of an output that is complete go. To be called before an output is refused for being there.
 *
 * @throws UnsupportedError if another process writes it.
 */
export async function recoverNames(path: string, times: LockTimes = {}): Promise<void> {
  if (!existsSync(dirname(path))) return;
  for (const count of [1, 2]) {
    const paths = workPaths(path, count);
    const { main, lock, journal, index, partial } = paths;
    const isComplete = existsSync(main) && [journal, lock].some((path) => existsSync(path));
    if (!isComplete && (index === null || !hasHalfCommit(index))) continue;
    const held = await OutputLock.take(lock, main, times);
    try {
      if (index !== null) recoverHeld(index);
      const left = index === null ? [partial(main)] : shardLeftovers(outputNames(main, 1).main);
      if (existsSync(main) && !left.some((path) => existsSync(path))) removeJournal(journal);
    } finally {
      held.release();
    }
  }
}

/**
 * Refuses an output of one file as {@link checkOutputPath} does, after what a killed process left of it is
 * put right.
 *
 * @throws UnsupportedError if it exists and `force` is not set, or another process writes it; Error otherwise.
 */
export async function checkOutput(path: string, { force }: { force: boolean }): Promise<void> {
  await recoverNames(path);
  checkOutputPath(path, { force });
}

/** Recovers the names of shards, under their lock. */
export function recoverHeld(indexPath: string): void {
  if (!finishInterim(indexPath)) OutputSet.undoHalfCommit(indexPath);
  // Of an index that a killed process had replaced.
  removeReplaced(indexPath);
}

/** Whether a process was killed while it gave the shards of this index their names. */
function hasHalfCommit(indexPath: string): boolean {
  const isInterim = isInterimOf(indexPath);
  return [".partial", ".replaced"].some((end) => existsSync(hiddenName(indexPath, end))) ||
    namesBeside(indexPath).some((name) => isInterim(name));
}

/**
 * Removes what killed runs of the same name left that this one does not use: partial files of other shards,
 * and everything of the other form, one file or shards, unless a live process writes that.
 *
 * @param own the paths of this run, whose lock it holds.
 * @param options.other also what is of the other form.
 */
export async function removeLeftovers(
  own: WorkPaths,
  { other, times = {} }: { readonly other: boolean; readonly times?: LockTimes | undefined },
): Promise<void> {
  const file = outputNames(own.main, 1).main;
  if (!file.endsWith(".safetensors")) return;
  const used = new Set([...own.files, ...(own.index === null ? [] : [own.index])].map(own.partial));
  const shards = shardLeftovers(file);
  if (own.index !== null) { for (const path of shards) if (!used.has(path)) remove(path); }
  if (!other) return;
  const its = workPaths(own.main, own.index === null ? 2 : 1);
  const left = own.index === null
    ? [...shards, its.partial(its.index!), its.journal]
    : [its.partial(file), its.journal];
  const isHalf = its.index !== null && hasHalfCommit(its.index);
  if (!isHalf && ![...left, its.lock].some((path) => existsSync(path))) return;
  let lock: OutputLock;
  try {
    lock = await OutputLock.take(its.lock, its.main, times);
  } catch (error) {
    if (error instanceof UnsupportedError) return; // it lives, and cleans up itself
    throw error;
  }
  try {
    if (its.index !== null) recoverHeld(its.index);
    for (const path of its.index === null ? left : [...left, ...shardLeftovers(file)]) remove(path);
  } finally {
    lock.release();
  }
}

/** Partial files of shards of `file`, but for those that a run of a shard alone holds the lock of. */
function shardLeftovers(file: string): string[] {
  const stem = `.${basename(file).slice(0, -".safetensors".length)}`;
  const folder = dirname(file);
  return namesBeside(file).flatMap((name) => {
    if (!name.startsWith(stem)) return [];
    const shard = /^-\d{5,}-of-\d{5,}\.safetensors(?=\.partial$)/.exec(name.slice(stem.length));
    if (shard === null || existsSync(join(folder, `${stem}${shard[0]}.lock`))) return [];
    return [join(folder, name)];
  });
}

function namesBeside(file: string): string[] {
  const folder = dirname(file);
  return explained(`Cannot read ${JSON.stringify(folder)}`, () => readdirSync(folder));
}

function remove(path: string): void {
  explained(`Cannot remove ${JSON.stringify(path)}`, () => rmSync(path, { force: true }));
}
