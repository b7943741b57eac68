/**
 * An output of one file or several that appears when it is complete, or not at all: partial files are
 * filled by address, synced, then renamed, the index last. Readers look for the index, so they see all
 * shards or none.
 */

import { existsSync, lstatSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { UnsupportedError } from "../core/errors.ts";
import { explained } from "./io_error.ts";
import { interimName, isInterimOf, linkInterim, removeInterim } from "./interim_shards.ts";
import {
  checkFreeSpace,
  checkOutputPath,
  hiddenName,
  OutputFile,
  type OutputOptions,
} from "./output_file.ts";
import {
  keepReplaced,
  removeReplaced,
  type ReplacedShards,
  restoreReplaced,
  shardsOf,
} from "./replaced_shards.ts";
import { type OutputPlace, placeOf } from "./output_place.ts";
import { encodeIndex, type OutputLayout, type OutputNames, outputNames } from "./shard_layout.ts";

/** How an output is written. */
export interface OutputSetOptions {
  /** Replace existing files. */
  readonly force: boolean;
  /**
   * Where the partial file of each output path is, and whether an earlier run's is continued; absent:
   * under names that no other run has.
   */
  readonly partial?: { readonly pathOf: (path: string) => string; readonly reuse: boolean };
}

/**
 * Refuses an output of which any file cannot be written. Touches nothing.
 *
 * @param count number of its files.
 * @throws UnsupportedError if one exists and `force` is not set; Error otherwise.
 */
export function checkOutputNames(
  path: string,
  count: number,
  { force }: { force: boolean },
): void {
  const { files, index } = outputNames(path, count);
  for (const file of index === null ? files : [index, ...files]) checkOutputPath(file, { force });
}

/** An output while it is written. Dispose it (`using`): what is neither committed nor kept is removed. */
export class OutputSet implements Disposable {
  /** File to open to read the output: its only file, or the index. */
  readonly path: string;
  /** The partial files, by address. */
  readonly places: readonly OutputPlace[];
  readonly #files: readonly OutputFile[];
  readonly #index: Pick<OutputFile, "path"> & { readonly options: OutputOptions } | null;
  readonly #layout: OutputLayout;
  readonly #force: boolean;

  private constructor(
    layout: OutputLayout,
    files: readonly OutputFile[],
    { main, index, force, partial }: OutputNames & OutputSetOptions,
  ) {
    this.path = main;
    this.#files = files;
    this.#layout = layout;
    this.#force = force;
    if (index === null) this.#index = null;
    else {
      const bytes = encodeIndex(layout, files.map(({ path }) => basename(path)));
      const options = { header: bytes, totalBytes: bytes.length, force };
      this.#index = {
        path: index,
        options: partial === undefined
          ? options
          : { ...options, partial: { path: partial.pathOf(index), reuse: false } },
      };
    }
    this.places = files.map(({ path, partialPath }, i) => {
      const { startBytes, totalBytes } = layout.parts[i]!;
      return { output: path, path: partialPath, startBytes, totalBytes };
    });
  }

  /**
   * Returns an output whose files have their sizes and headers; the rest is zero bytes, or what an earlier
   * run wrote.
   *
   * @param path where it will appear: a file, from which the names of shards are made.
   * @throws UnsupportedError if it exists and `force` is not set; Error if the folder cannot take it.
   *   Nothing is left behind then.
   */
  static create(path: string, layout: OutputLayout, options: OutputSetOptions): OutputSet {
    const { force, partial } = options;
    const names = outputNames(path, layout.parts.length);
    checkOutputNames(path, layout.parts.length, { force });
    // As a whole: files are made at their sizes, but take space only as they are filled.
    checkFreeSpace(
      names.main,
      layout.totalBytes,
      partial === undefined ? [] : names.files.map(partial.pathOf),
    );
    const files: OutputFile[] = [];
    try {
      for (const [i, { header, totalBytes }] of layout.parts.entries()) {
        const file = names.files[i]!;
        files.push(OutputFile.create(file, {
          header,
          totalBytes,
          force,
          ...(partial === undefined
            ? {}
            : { partial: { path: partial.pathOf(file), reuse: partial.reuse } }),
        }));
      }
    } catch (error) {
      for (const file of files) partial?.reuse ? file.keep() : file.discard();
      throw error;
    }
    return new OutputSet(layout, files, { ...names, ...options });
  }

  /**
   * Makes partial files again of those that a killed process had given their names already, when it was
   * killed before the last one had its. Its index shows it: it is written before the first name is given.
   */
  static undoHalfCommit(indexPath: string): void {
    const partialOf = (path: string) => hiddenName(path, ".partial");
    const partial = partialOf(indexPath);
    if (!existsSync(partial)) return;
    const isInterim = isInterimOf(indexPath);
    explained(`Cannot take back the names of ${JSON.stringify(indexPath)}`, () => {
      // One that is torn was written before any name was given.
      for (const name of shardsOf(partial) ?? []) {
        const file = join(dirname(indexPath), name);
        if (isInterim(name) || existsSync(partialOf(file)) || !existsSync(file)) continue;
        renameSync(file, partialOf(file));
      }
      rmSync(partial);
    });
  }

  /**
   * Writes all of `view`, which lies in one file, at an address.
   *
   * @throws RangeError if no file has these addresses; Error if writing fails.
   */
  write(view: Uint8Array, address: number): void {
    const part = placeOf(this.places, address);
    this.#files[part]!.write(view, address - this.places[part]!.startBytes);
  }

  /** Makes what was written so far durable, without holding up this thread. */
  async sync(): Promise<void> {
    for (const file of this.#files) await file.sync();
  }

  /**
   * Makes the output appear under its names, durable, the index last; then removes the shards that only a
   * replaced index names.
   *
   * @throws UnsupportedError if a file of such a name has come up meanwhile and `force` is not set;
   *   Error if syncing or renaming fails. All files are partial ones again then.
   */
  commit(): ReplacedShards {
    if (this.#index === null) {
      for (const file of this.#files) file.commit();
      return { removed: [], left: [] };
    }
    const { path, options } = this.#index;
    for (const file of this.#files) this.#refuseNew(file.path);
    const earlier = this.#force ? keepReplaced(path) : { removed: [], left: [] };
    const before = this.#force ? shardsOf(path) : null;
    const replacesOwn = this.#files.some((file) => before?.includes(basename(file.path)));
    const isLinked = replacesOwn &&
      explained(`Cannot replace ${JSON.stringify(path)}`, () => linkInterim(this.#files));
    if (isLinked) this.#commitLinked(path, options);
    else this.#commitApart(path, options, { replacesOwn });
    const now = removeReplaced(path);
    return { removed: [...earlier.removed, ...now.removed], left: [...earlier.left, ...now.left] };
  }

  /** Replaces shards of the same names, see `interim_shards.ts`. */
  #commitLinked(path: string, options: OutputOptions): void {
    const interim = this.#files.map((file) => basename(interimName(file.path)));
    const bytes = encodeIndex(this.#layout, interim);
    try {
      using index = OutputFile.create(path, {
        ...options,
        header: bytes,
        totalBytes: bytes.length,
      });
      index.commit();
    } catch (error) {
      removeInterim(this.#files.map((file) => file.path));
      restoreReplaced(path, { isWhole: true });
      throw error;
    }
    // From here on the new model is whole: whatever fails, the next run gives the names.
    using index = OutputFile.create(path, options);
    for (const file of this.#files) file.commit();
    index.commit();
    removeInterim(this.#files.map((file) => file.path));
  }

  /** Gives names that no index in place has; or, if there are no links, takes that index away before. */
  #commitApart(
    path: string,
    options: OutputOptions,
    { replacesOwn }: { readonly replacesOwn: boolean },
  ): void {
    using index = OutputFile.create(path, options);
    index.syncNow();
    const isBroken = this.#force && existsSync(path) && shardsOf(path) === null;
    // It would join its shards with those of now, should the power fail in between.
    if (replacesOwn || isBroken) {
      explained(`Cannot replace ${JSON.stringify(path)}`, () => rmSync(path, { force: true }));
    }
    const renamed: OutputFile[] = [];
    try {
      for (const file of this.#files) {
        file.commit();
        renamed.push(file);
      }
      index.commit();
    } catch (error) {
      for (const file of renamed) file.uncommit();
      restoreReplaced(path, { isWhole: renamed.length === 0 });
      throw error;
    }
  }

  /** Leaves the partial files where they are, for a run that continues them. */
  keep(): void {
    for (const file of this.#files) file.keep();
  }

  /** Removes the partial files. Idempotent; nothing to do after {@link commit} and {@link keep}. */
  discard(): void {
    for (const file of this.#files) file.discard();
  }

  [Symbol.dispose](): void {
    this.discard();
  }

  #refuseNew(path: string): void {
    if (this.#force || lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
    throw new UnsupportedError(
      `Cannot write ${JSON.stringify(path)}: it has come up meanwhile; \`--force\` replaces it`,
    );
  }
}
