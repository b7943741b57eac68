/** Files of the parts of an output: checksums, copies that check them, what lies in a folder. */

import { closeSync, fdatasync, openSync, readdirSync, readSync, rmSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import { InterruptedError } from "../core/errors.ts";
import { crc32 } from "./crc32.ts";
import { codeOf, explained } from "./io_error.ts";
import { readSmallFile } from "./small_file.ts";

/**
 * Bytes that are read and written at a time. What is copied stays in the processor's cache; larger writes take
 * Linux several times as long, as it looks for larger pieces of memory for them.
 */
const STEP_BYTES = 64 << 10;

/** Bytes that one checksum is of. */
export const BLOCK_BYTES = 4 << 20;

/** Bytes that are written before their way to the disk begins: what is left for the end is short. */
const SYNC_BYTES = 64 << 20;

/** Bytes of a file. */
export interface Range {
  readonly offsetBytes: number;
  readonly byteLength: number;
}

/** Bytes of a file, and what they are. */
export interface CheckedRange extends Range {
  /** CRC-32 of each {@link BLOCK_BYTES}, the last ones may be fewer. */
  readonly crc32: readonly number[];
}

/** Returns the checksums of every range; a range beyond the end has those of what is there. */
export async function checksumsOf(path: string, ranges: readonly Range[]): Promise<number[][]> {
  const file = openAs(path, "r");
  const buffer = new Uint8Array(STEP_BYTES);
  try {
    const all: number[][] = [];
    for (const { offsetBytes, byteLength } of ranges) {
      const sums: number[] = [];
      for (let done = 0; done < byteLength; done += BLOCK_BYTES) {
        const length = Math.min(BLOCK_BYTES, byteLength - done);
        sums.push(checkBlock(file, offsetBytes + done, { length, buffer }));
        await breath();
      }
      all.push(sums);
    }
    return all;
  } finally {
    closeSync(file.fd);
  }
}

/**
 * Returns the checksum of `length` bytes from `position` on; `use` sees them piece by piece.
 *
 * @param place of the first byte where `use` puts them: pieces end at multiples of their size there, as writes of
 * whole pages cost least.
 */
function checkBlock(
  { path, fd }: OpenFile,
  position: number,
  { length, buffer, place = position, use = () => {} }: {
    length: number;
    buffer: Uint8Array;
    place?: number;
    use?: (bytes: Uint8Array, done: number) => void;
  },
): number {
  let sum = 0;
  for (let done = 0; done < length;) {
    const toEnd = buffer.length - (place + done) % buffer.length;
    const wanted = Math.min(toEnd, length - done);
    const bytesRead = explained(
      `Cannot read ${JSON.stringify(path)}`,
      () => readSync(fd, buffer, 0, wanted, position + done),
    );
    if (bytesRead === 0) break;
    const bytes = buffer.subarray(0, bytesRead);
    sum = crc32(bytes, sum);
    use(bytes, done);
    done += bytesRead;
  }
  return sum;
}

/** Lets timers and signals have their turn. */
const breath = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Copies ranges between files that stay open until it is disposed. */
export class RangeCopier implements AsyncDisposable {
  readonly #sources = new Map<string, OpenFile>();
  readonly #targets = new Map<string, OpenFile>();
  readonly #buffer = new Uint8Array(STEP_BYTES);
  #unsynced = 0;
  #syncing: Promise<void> | null = null;

  /**
   * Copies `range` of `source` to `position` of `target`. Returns the offset in `source` of the first block
   * that has not its checksum: what was written is worth nothing then; null if all have.
   *
   * @throws InterruptedError if `signal` aborts; Error if reading or writing fails.
   */
  async copy(
    source: string,
    { offsetBytes, byteLength, crc32 }: CheckedRange,
    { target, position, signal }: {
      target: string;
      position: number;
      signal: AbortSignal | undefined;
    },
  ): Promise<number | null> {
    const from = opened(this.#sources, source, "r"), to = opened(this.#targets, target, "r+");
    for (let done = 0; done < byteLength; done += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, byteLength - done);
      const at = position + done;
      const sum = checkBlock(from, offsetBytes + done, {
        length,
        buffer: this.#buffer,
        place: at,
        use: (bytes, within) => writeAll(to, bytes, at + within),
      });
      if (sum !== crc32[done / BLOCK_BYTES]) return offsetBytes + done;
      await this.#written(to, length);
      if (signal?.aborted) throw new InterruptedError();
    }
    return null;
  }

  /** Begins to sync `target` now and then, while the next bytes are copied. */
  async #written({ fd }: OpenFile, bytes: number): Promise<void> {
    this.#unsynced += bytes;
    if (this.#unsynced >= SYNC_BYTES && this.#syncing === null) {
      this.#unsynced = 0;
      // A disk that fails does so in the sync at the end as well, which reports it.
      this.#syncing = promisify(fdatasync)(fd).catch(() => {}).finally(() => {
        this.#syncing = null;
      });
    }
    await breath();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#syncing;
    for (const file of [...this.#sources.values(), ...this.#targets.values()]) closeSync(file.fd);
  }
}

interface OpenFile {
  readonly path: string;
  readonly fd: number;
}

function openAs(path: string, flags: "r" | "r+"): OpenFile {
  return {
    path,
    fd: explained(`Cannot open ${JSON.stringify(path)}`, () => openSync(path, flags)),
  };
}

function opened(files: Map<string, OpenFile>, path: string, flags: "r" | "r+"): OpenFile {
  const file = files.get(path) ?? openAs(path, flags);
  files.set(path, file);
  return file;
}

function writeAll({ path, fd }: OpenFile, bytes: Uint8Array, position: number): void {
  explained(`Cannot write ${JSON.stringify(path)}`, () => {
    for (let done = 0; done < bytes.length;) {
      done += writeSync(fd, bytes, done, bytes.length - done, position + done);
    }
  });
}

/** Returns the text of a file; null if there is none. */
export function readTextIfThere(path: string): string | null {
  return explained(`Cannot read ${JSON.stringify(path)}`, () => {
    try {
      return new TextDecoder().decode(readSmallFile(path));
    } catch (error) {
      if (codeOf(error) === "ENOENT") return null;
      throw error;
    }
  });
}

/** Removes a file; nothing happens if there is none. */
export function removeIfThere(path: string): void {
  explained(`Cannot remove ${JSON.stringify(path)}`, () => rmSync(path, { force: true }));
}

/** Returns the names in a folder. */
export function namesIn(folder: string): string[] {
  return explained(`Cannot read ${JSON.stringify(folder)}`, () => readdirSync(folder));
}
