/** A file that keeps what was fetched, for values that are read more than once. */

import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

/** Blocks of several files, one behind the other, sparse until they are written. Close it: it is removed. */
export class SpillFile implements Disposable {
  readonly path: string;
  readonly #fd: number;
  readonly #bases: readonly number[];

  /**
   * @param folder where it is made, under a hidden name of its own.
   * @param sizes of the files, in bytes.
   */
  constructor(folder: string, sizes: readonly number[]) {
    this.path = join(folder, `.quantsmith-download-${crypto.randomUUID()}.tmp`);
    this.#fd = this.#explained("make", () => openSync(this.path, "wx+", 0o600));
    // Without a name it goes with the process, however that ends.
    try {
      rmSync(this.path);
    } catch (error) {
      // Some file systems of Windows do not remove open files: `close` does.
      if (process.platform !== "win32") throw error;
    }
    let end = 0;
    this.#bases = sizes.map((size) => {
      const base = end;
      end += size;
      return base;
    });
  }

  /** Fills `view` from file number `file`. Only for what was written. */
  read(file: number, view: Uint8Array, positionBytes: number): void {
    const at = this.#bases[file]! + positionBytes;
    for (let done = 0; done < view.length;) {
      const got = this.#explained(
        "read",
        () => readSync(this.#fd, view, done, view.length - done, at + done),
      );
      if (got === 0) throw new RangeError(`Cannot read ${JSON.stringify(this.path)}: it is cut`);
      done += got;
    }
  }

  /** Writes `view` as part of file number `file`. */
  write(file: number, view: Uint8Array, positionBytes: number): void {
    const at = this.#bases[file]! + positionBytes;
    for (let done = 0; done < view.length;) {
      done += this.#explained(
        "write",
        () => writeSync(this.#fd, view, done, view.length - done, at + done),
      );
    }
  }

  /** Closes and removes it. */
  close(): void {
    closeSync(this.#fd);
    rmSync(this.path, { force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #explained<T>(verb: string, action: () => T): T {
    try {
      return action();
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      const reason = text.includes("ENOSPC") ? "the disk is full" : text;
      throw new Error(
        `Cannot ${verb} ${JSON.stringify(this.path)}: ${reason}; values that are read more than ` +
          "once are kept there: download the model first, or write the output to a disk with room",
        { cause },
      );
    }
  }
}
