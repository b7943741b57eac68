/**
 * The access of a thread to a file: bytes by position. There are three kinds: files that a person gave
 * to the page (`blob_file.ts`), files in memory (`memory_file.ts`), and the output, which one thread owns
 * (`disk.ts`). On Deno, Node and Bun it is `node:fs` itself; here `web/node/fs.ts` has the same functions
 * on top of this.
 */

/** A file that is read and written by position. */
export interface RandomAccessFile {
  /** In bytes. */
  readonly size: number;
  /**
   * Fills `view` from `position` on; returns how many bytes there were, fewer than asked for at the end.
   *
   * @param view any length, may lie in shared memory.
   */
  read(view: Uint8Array, position: number): number;
  /** Writes all of `view` at `position`; the file grows as needed. */
  write(view: Uint8Array, position: number): void;
  /** Gives the file this size; what is new is zero. */
  truncate(size: number): void;
  /** Makes writes durable, as far as a browser can. */
  flush(): void;
}

/** An error as `node:fs` throws them: the program goes by `code`. */
export class FileError extends Error {
  override readonly name = "FileError";
  readonly code: string;

  constructor(code: string, message: string = code) {
    super(message);
    this.code = code;
  }
}
