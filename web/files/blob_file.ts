/** A file that a person chose or dropped. Its bytes stay on the disk: they are read ahead, or slice by slice. */

import { FileError, type RandomAccessFile } from "./random_access_file.ts";

/** Of workers only; the types that Deno has lack it. */
interface SyncReader {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}
declare const FileReaderSync: new () => SyncReader;

/** Fills `view` from `position` on, as far as it can; returns how many bytes. */
export type ReadFirst = (view: Uint8Array, position: number) => number;

/** Reads a Blob without awaiting. For workers: the main thread of a page has no such reader. */
export class BlobFile implements RandomAccessFile {
  readonly #blob: Blob;
  readonly #ahead: ReadFirst | null;
  readonly #reader = new FileReaderSync();

  /** @param ahead gets the first bytes of a read in a faster way; null: there is none. */
  constructor(blob: Blob, ahead: ReadFirst | null = null) {
    this.#blob = blob;
    this.#ahead = ahead;
  }

  get size(): number {
    return this.#blob.size;
  }

  /** @throws FileError if the file was changed, moved or removed since it was chosen. */
  read(view: Uint8Array, position: number): number {
    const done = this.#ahead?.(view, position) ?? 0;
    if (done === view.length) return done;
    const slice = this.#blob.slice(position + done, position + view.length);
    const bytes = new Uint8Array(this.#bytesOf(slice));
    view.set(bytes, done);
    return done + bytes.length;
  }

  /** Reads nothing; fails if reading would. */
  probe(): void {
    this.#bytesOf(this.#blob.slice(0, 1));
  }

  write(): void {
    throw new FileError("EACCES", "a file that was chosen to be read is not written to");
  }

  truncate(): void {
    this.write();
  }

  flush(): void {}

  #bytesOf(slice: Blob): ArrayBuffer {
    try {
      return this.#reader.readAsArrayBuffer(slice);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new FileError(error.name === "NotFoundError" ? "ENOENT" : "ECHANGED", UNREADABLE);
    }
  }
}

const UNREADABLE =
  "the browser cannot read it any more: it was changed, moved or removed since it was chosen; choose it again";
