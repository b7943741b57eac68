/** Destinations of an output: the browser's own storage, a file that was picked, or memory. */

import { FileError } from "./random_access_file.ts";
import { MemoryFile } from "./memory_file.ts";
import { WriteBehind } from "./write_behind.ts";

/** Result of an action that some stores do at once, and others after a while. */
export type Later<T> = T | Promise<T>;

/** The one large file that a conversion writes. */
export interface OutputStore {
  readonly size: number;
  read(view: Uint8Array, position: number): Later<number>;
  write(view: Uint8Array, position: number): Later<void>;
  truncate(size: number): Later<void>;
  flush(): Later<void>;
  /** All of it is written. It can still be read. */
  complete(): Later<void>;
  /** Removes whatever there is of it. Idempotent. */
  discard(): Later<void>;
  /** The result for the page: bytes, or the file that was picked. Nothing is read or written after it. */
  result(): Promise<StoreResult>;
}

/** Result of an output. */
export type StoreResult =
  | { readonly kind: "blob"; readonly blob: Blob; readonly stored: string | null }
  | { readonly kind: "picked"; readonly handle: FileSystemFileHandle };

/** Of workers only; the types that Deno has lack it. */
export interface SyncHandle {
  read(view: Uint8Array, options: { at: number }): number;
  write(view: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/**
 * Opens a file of the browser's own storage. Chromium lets several threads have it open, others one only.
 *
 * @throws FileError ENOSYS if this browser cannot; DOMException if another thread has it.
 */
export async function openPrivate(file: FileSystemFileHandle): Promise<SyncHandle> {
  const { createSyncAccessHandle } = file as unknown as {
    createSyncAccessHandle?: (options: { mode: string }) => Promise<SyncHandle>;
  };
  if (createSyncAccessHandle === undefined) {
    throw new FileError(
      "ENOSYS",
      "this browser has no storage that a page can write to by position",
    );
  }
  return await createSyncAccessHandle.call(file, { mode: "readwrite-unsafe" });
}

/** Fills `view` as far as the file goes; returns how many bytes. @throws FileError. */
export function readPart(handle: SyncHandle, view: Uint8Array, position: number): number {
  return worded(() => handle.read(view, { at: position }));
}

/** Writes all of `view`. @throws FileError. */
export function writeFully(handle: SyncHandle, view: Uint8Array, position: number): void {
  let done = 0;
  while (done < view.length) {
    const count = worded(() => handle.write(view.subarray(done), { at: position + done }));
    // A full disk takes nothing, and some browsers report no more than that.
    if (count === 0) throw new FileError("ENOSPC");
    done += count;
  }
}

/** A file in the Origin Private File System, the browser's own storage: on the disk, not in memory. */
export class PrivateStore implements OutputStore {
  readonly #folder: FileSystemDirectoryHandle;
  readonly #file: FileSystemFileHandle;
  readonly #handle: SyncHandle;
  #isOpen = true;

  private constructor(
    folder: FileSystemDirectoryHandle,
    file: FileSystemFileHandle,
    handle: SyncHandle,
  ) {
    this.#folder = folder;
    this.#file = file;
    this.#handle = handle;
  }

  /** Opens a new file in `folder`, which belongs to this conversion alone. */
  static async create(folder: FileSystemDirectoryHandle, name: string): Promise<PrivateStore> {
    const file = await folder.getFileHandle(name, { create: true });
    return new PrivateStore(folder, file, await openPrivate(file));
  }

  get size(): number {
    return this.#handle.getSize();
  }

  read(view: Uint8Array, position: number): number {
    return readPart(this.#handle, view, position);
  }

  write(view: Uint8Array, position: number): void {
    writeFully(this.#handle, view, position);
  }

  truncate(size: number): void {
    worded(() => this.#handle.truncate(size));
  }

  /** Nothing: what lies here is of no use after a crash, and to wait for the disk takes a second for 2 GB. */
  flush(): void {}

  complete(): void {}

  async discard(): Promise<void> {
    this.#close();
    await this.#folder.removeEntry(this.#file.name).catch(() => {});
  }

  async result(): Promise<StoreResult> {
    this.#close();
    return { kind: "blob", blob: await this.#file.getFile(), stored: this.#folder.name };
  }

  #close(): void {
    if (this.#isOpen) this.#handle.close();
    this.#isOpen = false;
  }
}

/**
 * A file that was picked, written through a stream: the browser collects what is written beside the file,
 * and puts it in its place when the stream is closed. So nothing can be read back before that.
 */
export class PickedStore implements OutputStore {
  readonly #handle: FileSystemFileHandle;
  readonly #stream: FileSystemWritableFileStream;
  readonly #behind: WriteBehind;
  #finished: Blob | null = null;
  #size = 0;

  private constructor(handle: FileSystemFileHandle, stream: FileSystemWritableFileStream) {
    this.#handle = handle;
    this.#stream = stream;
    this.#behind = new WriteBehind((data, position) =>
      wordedLater(() => stream.write({ type: "write", position, data }), position + data.length)
    );
  }

  static async create(handle: FileSystemFileHandle): Promise<PickedStore> {
    return new PickedStore(handle, await wordedLater(() => handle.createWritable(), 0));
  }

  get size(): number {
    return this.#size;
  }

  async read(view: Uint8Array, position: number): Promise<number> {
    if (this.#finished === null) {
      throw new FileError("EDISK", "a picked file can be read only when all of it is written");
    }
    const slice = this.#finished.slice(position, position + view.length);
    const bytes = new Uint8Array(await slice.arrayBuffer());
    view.set(bytes);
    return bytes.length;
  }

  write(view: Uint8Array, position: number): Later<void> {
    this.#size = Math.max(this.#size, position + view.length);
    return this.#behind.write(view, position);
  }

  async truncate(size: number): Promise<void> {
    await wordedLater(() => this.#stream.truncate(size), size);
    this.#size = size;
  }

  flush(): void {}

  async complete(): Promise<void> {
    if (this.#finished !== null) return;
    await this.#behind.flush();
    await wordedLater(() => this.#stream.close(), this.#size);
    this.#finished = await this.#handle.getFile();
  }

  async discard(): Promise<void> {
    if (this.#finished === null) await this.#stream.abort().catch(() => {});
    // The browser made an empty file when it was picked. One that was there before stays as it was.
    const { size } = await this.#handle.getFile().catch(() => ({ size: 0 }));
    if (this.#finished !== null || size === 0) await removeFile(this.#handle);
  }

  result(): Promise<StoreResult> {
    return Promise.resolve({ kind: "picked", handle: this.#handle });
  }
}

/** Removes a picked file, if the browser can. */
export async function removeFile(handle: FileSystemFileHandle): Promise<void> {
  const { remove } = handle as unknown as { remove?: () => Promise<void> };
  await remove?.call(handle).catch(() => {});
}

/** Memory, for browsers without storage, and for tests. */
export class MemoryStore extends MemoryFile implements OutputStore {
  /** @param mostBytes larger outputs are refused. */
  constructor(private readonly mostBytes: number) {
    super();
  }

  override truncate(size: number): void {
    if (size > this.mostBytes) throw new FileError("ENOSPC");
    super.truncate(size);
  }

  complete(): void {}

  discard(): void {
    this.truncate(0);
  }

  result(): Promise<StoreResult> {
    return Promise.resolve({ kind: "blob", blob: new Blob([this.bytes]), stored: null });
  }
}

/** The largest file of FAT32, the format of many memory sticks. */
const FAT32_MOST_BYTES = 2 ** 32 - 1;

function worded<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw asFileError(error, 0);
  }
}

async function wordedLater<T>(action: () => Promise<T>, endBytes: number): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw asFileError(error, endBytes);
  }
}

/** Returns an error of the browser as the program knows it. `endBytes`: the end of the write. */
export function asFileError(error: unknown, endBytes: number): unknown {
  if (!(error instanceof DOMException) && !(error instanceof Error)) return error;
  if (error instanceof FileError) return error;
  if (error.name === "QuotaExceededError") return new FileError("ENOSPC");
  if (error.name === "NotAllowedError") {
    return new FileError("EACCES", "the browser was not allowed to write it; choose a place again");
  }
  if (endBytes > FAT32_MOST_BYTES) {
    return new FileError(
      "EFBIG4",
      `${error.message} (a disk or stick with FAT32 holds no file over 4 GB; choose a place on one with ` +
        "exFAT or NTFS)",
    );
  }
  return new FileError("EDISK", `the disk reports an error: ${error.message}`);
}
