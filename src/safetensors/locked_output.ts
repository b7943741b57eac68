/**
 * An output of a command that begins anew each time: its partial files have the names that every run of the
 * same output knows, so the next one replaces what a killed one left, and a lock keeps runs apart.
 */

import { removeJournal } from "./journal_file.ts";
import { recoverHeld, removeLeftovers, workPaths } from "./leftovers.ts";
import { type LockTimes, OutputLock } from "./output_lock.ts";
import { OutputSet } from "./output_set.ts";
import type { ReplacedShards } from "./replaced_shards.ts";
import type { OutputLayout } from "./shard_layout.ts";

/** How it is written. */
export interface LockedOutputOptions {
  /** Replace an existing output. */
  readonly force: boolean;
  readonly times?: LockTimes | undefined;
}

/** An output that no other process writes. Dispose it (`using`): what is not committed then is removed. */
export class LockedOutput implements Disposable {
  /** Its partial files. */
  readonly set: OutputSet;
  readonly #lock: OutputLock;

  private constructor(set: OutputSet, lock: OutputLock) {
    this.set = set;
    this.#lock = lock;
  }

  /**
   * Returns an output whose files have their sizes and headers.
   *
   * @param layout of its files; or the first bytes and the size of its only one.
   * @throws UnsupportedError if it exists and `force` is not set, or another process writes it; Error if the
   *   folder cannot take it. Nothing is left behind then.
   */
  static async create(
    path: string,
    layout: OutputLayout | { readonly header: Uint8Array; readonly totalBytes: number },
    { force, times }: LockedOutputOptions,
  ): Promise<LockedOutput> {
    const whole = "parts" in layout ? layout : oneFile(layout);
    const paths = workPaths(path, whole.parts.length);
    const lock = await OutputLock.take(paths.lock, paths.main, times);
    try {
      if (paths.index !== null) recoverHeld(paths.index);
      await removeLeftovers(paths, { other: true, times });
      removeJournal(paths.journal);
      const partial = { pathOf: paths.partial, reuse: false };
      return new LockedOutput(OutputSet.create(path, whole, { force, partial }), lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Makes it appear under its name, durable. */
  async commit(): Promise<ReplacedShards> {
    await this.set.sync();
    this.#lock.check();
    return this.set.commit();
  }

  [Symbol.dispose](): void {
    // Of a run that has taken over, the files of these names are its own.
    if (this.#lock.isHeld) this.set.discard();
    else this.set.keep();
    this.#lock.release();
  }
}

function oneFile(
  { header, totalBytes }: { readonly header: Uint8Array; readonly totalBytes: number },
): OutputLayout {
  return { parts: [{ header, startBytes: 0, totalBytes, names: [] }], entries: [], totalBytes };
}
