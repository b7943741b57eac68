/**
 * A file that appears under its name only when it is complete: written beside it under a name of its
 * own, synced, then renamed. Whatever happens before, a file of that name stays as it was.
 */

import {
  accessSync,
  closeSync,
  constants,
  fsync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  unlinkSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { UnsupportedError } from "../core/errors.ts";
import { codeOf, explained, explainedAsync, ioReason } from "./io_error.ts";
import type { InputPath } from "../remote/input_path.ts";
import { writeExactly } from "./write_exactly.ts";

/** Parameters of an output. */
export interface OutputOptions {
  /** Its first bytes: length and JSON. */
  readonly header: Uint8Array;
  /** Size of the whole file. */
  readonly totalBytes: number;
  /** Replace an existing file. */
  readonly force: boolean;
  /**
   * Path of the partial file, if an earlier run may have left one that is continued (`reuse`) or
   * replaced; absent: a name that no other run has.
   */
  readonly partial?: { readonly path: string; readonly reuse: boolean } | undefined;
}

const fsyncAsync = promisify(fsync);

/** File systems limit names to 255 bytes; the ends added to a name must fit too. */
const MAX_STEM_BYTES = 200;

/**
 * Refuses an output that cannot become a file: it is a folder, its folder is missing or cannot be
 * written, or it exists and `force` is not set. Touches nothing.
 *
 * @throws UnsupportedError if it exists; Error otherwise.
 */
export function checkOutputPath(path: string, { force }: { force: boolean }): void {
  const what = `Cannot write ${JSON.stringify(path)}`;
  if (basename(path) === "" || /[/\\]$/.test(path)) throw new Error(`${what}: it names no file`);
  const folder = dirname(resolve(path));
  const inFolder = `${what}: its folder ${JSON.stringify(folder)}`;
  if (!explained(inFolder, () => statSync(folder)).isDirectory()) {
    throw new Error(`${inFolder}: it is not a folder`);
  }
  const existing = existingAt(path);
  if (existing === "folder") throw new Error(`${what}: it is a folder; name a file in it`);
  if (existing === "special") {
    throw new Error(`${what}: it is a device or a pipe, and would be replaced by a file`);
  }
  if (existing === "file" && !force) {
    throw new UnsupportedError(`${what}: it exists; \`--force\` replaces it`);
  }
  explained(inFolder, () => accessSync(folder, constants.W_OK));
}

/**
 * Refuses an output that is one of the inputs: the same path, or another name of the same file.
 *
 * @throws UnsupportedError naming both.
 */
export function refuseSameFile(outputPath: string, inputPaths: readonly InputPath[]): void {
  const input = sameInput(outputPath, inputPaths);
  if (input === undefined) return;
  throw new UnsupportedError(
    `Cannot write ${JSON.stringify(outputPath)}: it is the input ${JSON.stringify(input)}; ` +
      "name another output",
  );
}

/** Whether `path` is one of the inputs, under this name or another. */
export function isInput(path: string, inputPaths: readonly InputPath[]): boolean {
  return sameInput(path, inputPaths) !== undefined;
}

function sameInput(path: string, inputPaths: readonly InputPath[]): InputPath | undefined {
  const id = fileId(path);
  return inputPaths.find((input) =>
    typeof input === "string" && // others lie on servers
    (resolve(path) === resolve(input) || (id !== null && id === fileId(input)))
  );
}

/** An output while it is written. Dispose it (`using`): what is not committed then is removed. */
export class OutputFile implements Disposable {
  /** The name it will have. */
  readonly path: string;
  /** The name it has while it is written; workers may open it too. */
  readonly partialPath: string;
  /** Size of the whole file. */
  readonly totalBytes: number;
  readonly #force: boolean;
  readonly #fd: number;
  #state: "open" | "closed" | "done" = "open";

  private constructor(path: string, partial: { path: string; fd: number }, options: OutputOptions) {
    this.path = path;
    this.partialPath = partial.path;
    this.totalBytes = options.totalBytes;
    this.#force = options.force;
    this.#fd = partial.fd;
  }

  /**
   * Returns an output at its full size, its header written, the rest zero bytes or what an earlier run
   * wrote.
   *
   * @param path where it will appear.
   * @throws UnsupportedError if it exists and `force` is not set; Error if the folder cannot take
   *   it: missing, not writable, or too little free space. Nothing is left behind then.
   */
  static create(path: string, options: OutputOptions): OutputFile {
    checkOutputPath(path, options);
    const what = `Cannot write ${JSON.stringify(path)}`;
    const { partial } = options;
    checkFreeSpace(path, options.totalBytes, partial === undefined ? [] : [partial.path]);
    const opened = explained(
      what,
      () => partial === undefined ? openPartial(path) : openNamed(partial),
    );
    const output = new OutputFile(path, opened, options);
    try {
      output.write(options.header, 0);
      explained(what, () => ftruncateSync(output.fd, options.totalBytes));
    } catch (error) {
      if (partial?.reuse) output.keep();
      else output.discard();
      throw error;
    }
    return output;
  }

  /** The partial file as workers write to it. */
  get place(): { output: string; path: string; startBytes: number; totalBytes: number } {
    return {
      output: this.path,
      path: this.partialPath,
      startBytes: 0,
      totalBytes: this.totalBytes,
    };
  }

  /** The open file, for positional writes. */
  get fd(): number {
    if (this.#state !== "open") throw new Error(`${this.#what()}: it is closed already`);
    return this.#fd;
  }

  /**
   * Writes all of `view` at an absolute offset.
   *
   * @throws RangeError if it would end after `totalBytes`; Error if writing fails.
   */
  write(view: Uint8Array, positionBytes: number): void {
    const end = positionBytes + view.length;
    if (!(positionBytes >= 0 && end <= this.totalBytes)) {
      throw new RangeError(
        `${this.#what()}: bytes ${positionBytes} to ${end} are not within its ${this.totalBytes}`,
      );
    }
    const fd = this.fd;
    explained(this.#what(), () => writeExactly(fd, view, positionBytes));
  }

  /**
   * Makes the file appear under its name, durable: syncs it, renames it, syncs its folder.
   *
   * @throws UnsupportedError if a file of that name has come up meanwhile and `force` is not set;
   *   Error if syncing or renaming fails. The output stays a partial one then.
   */
  commit(): void {
    const fd = this.fd;
    explained(this.#what(), () => fsyncSync(fd));
    this.#close();
    if (!this.#force && existingAt(this.path) !== null) {
      throw new UnsupportedError(
        `${this.#what()}: it has come up meanwhile; \`--force\` replaces it`,
      );
    }
    explained(this.#what(), () => renameSync(this.partialPath, this.path));
    this.#state = "done";
    syncFolder(dirname(resolve(this.path)), this.#what());
  }

  /** Makes what was written so far durable, without holding up this thread. */
  async sync(): Promise<void> {
    const fd = this.fd;
    await explainedAsync(this.#what(), () => fsyncAsync(fd));
  }

  /** {@link sync} for small files. */
  syncNow(): void {
    const fd = this.fd;
    explained(this.#what(), () => fsyncSync(fd));
  }

  /** Closes the partial file and leaves it where it is. Nothing to do after {@link commit}. */
  keep(): void {
    this.#close();
    this.#state = "done";
  }

  /** Takes a name that {@link commit} gave away again: the file becomes a partial one. */
  uncommit(): void {
    explained(this.#what(), () => renameSync(this.path, this.partialPath));
    this.#state = "closed";
  }

  /** Removes the partial file. Idempotent; nothing to do after {@link commit}. */
  discard(): void {
    if (this.#state === "done") return;
    this.#close();
    this.#state = "done";
    try {
      unlinkSync(this.partialPath);
    } catch (cause) {
      if (codeOf(cause) === "ENOENT") return; // gone already: what was wanted
      throw new Error(`Cannot remove ${JSON.stringify(this.partialPath)}: ${ioReason(cause)}`, {
        cause,
      });
    }
  }

  [Symbol.dispose](): void {
    this.discard();
  }

  #close(): void {
    if (this.#state !== "open") return;
    this.#state = "closed";
    closeSync(this.#fd);
  }

  #what(): string {
    return `Cannot write ${JSON.stringify(this.path)}`;
  }
}

/**
 * Returns the path of a file that belongs to the output `path`: hidden, beside it, with another ending. Of
 * names that would become too long, the end is replaced by a hash of the whole.
 */
export function hiddenName(path: string, ending: string): string {
  const name = basename(path);
  let stem = name;
  while (new TextEncoder().encode(stem).length > MAX_STEM_BYTES) stem = stem.slice(0, -1);
  const hash = stem === name
    ? ""
    : `~${createHash("sha256").update(name).digest("hex").slice(0, 12)}`;
  return join(dirname(path), `.${stem}${hash}${ending}`);
}

/**
 * Opens a new file `.<name>.<pid>.partial` beside `path`. A name that is taken, by a killed process of
 * the same id or, on a shared disk, by a live one of another machine, is left alone: the next is tried.
 */
function openPartial(path: string): { path: string; fd: number } {
  for (let attempt = 1;; attempt++) {
    const owner = attempt === 1 ? `${process.pid}` : `${process.pid}-${attempt}`;
    const partial = hiddenName(path, `.${owner}.partial`);
    try {
      return { path: partial, fd: openSync(partial, "wx+") };
    } catch (error) {
      if (codeOf(error) !== "EEXIST" || attempt === 100) throw error;
    }
  }
}

/** Opens a partial file under a name that runs of the same output share. */
function openNamed(
  { path, reuse }: { path: string; reuse: boolean },
): { path: string; fd: number } {
  if (reuse && lstatSync(path).isFile()) return { path, fd: openSync(path, "r+") };
  // Never through a link: what it points to is not ours.
  rmSync(path, { force: true });
  return { path, fd: openSync(path, "wx+") };
}

/** Returns the size of a file; null if there is none. */
export function fileSizeOf(path: string): number | null {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() ? stats.size : null;
}

/** Bytes of the disk that files have already: one that was made larger than what was written has fewer. */
function allocatedBytes(path: string): number {
  const stats = statSync(path, { throwIfNoEntry: false });
  // Windows does not report it; there a file that was made larger takes its size.
  return stats === undefined ? 0 : stats.blocks === undefined ? stats.size : 512 * stats.blocks;
}

/**
 * Refuses an output for which the disk lacks the space.
 *
 * @param partials files that are continued, or removed before anything is written: their space counts as free.
 */
export function checkFreeSpace(
  path: string,
  totalBytes: number,
  partials: readonly string[],
): void {
  const what = `Cannot write ${JSON.stringify(path)}`;
  const disk = explained(what, () => statfsSync(dirname(resolve(path))));
  const replaced = partials.reduce((sum, partial) => sum + allocatedBytes(partial), 0);
  const free = disk.bavail * disk.bsize + replaced;
  if (totalBytes > free) {
    throw new Error(
      `${what}: it needs ${totalBytes} bytes (${gigabytes(totalBytes)}), ` +
        `the disk has ${free} free (${gigabytes(free)})`,
    );
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/** Makes a rename durable. The output is complete already: only a disk error is one here. */
function syncFolder(folder: string, what: string): void {
  if (process.platform === "win32") return; // folders cannot be opened there
  const fd = explained(what, () => openSync(folder, "r"));
  try {
    fsyncSync(fd);
  } catch (cause) {
    // Network and FUSE file systems that know no such call say EINVAL or ENOTSUP.
    if (codeOf(cause) === "EIO") throw new Error(`${what}: ${ioReason(cause)}`, { cause });
  } finally {
    closeSync(fd);
  }
}

/** Returns what stands where the output is to be; null if there is nothing. */
function existingAt(path: string): "file" | "folder" | "special" | null {
  return explained(`Cannot write ${JSON.stringify(path)}`, () => {
    const entry = lstatSync(path, { throwIfNoEntry: false });
    if (entry === undefined) return null;
    // A link counts as what it points to; one that points nowhere would still be replaced.
    const target = entry.isSymbolicLink() ? statSync(path, { throwIfNoEntry: false }) : entry;
    if (target === undefined || target.isFile()) return "file";
    return target.isDirectory() ? "folder" : "special";
  });
}

/** Returns device and number of a file, links followed; null if there is none. */
function fileId(path: string): string | null {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined || stats.ino === 0n ? null : `${stats.dev}:${stats.ino}`;
}
