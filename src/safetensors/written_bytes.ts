/**
 * Checksums of what was written, to be checked by a run that continues it. Writes that follow one another,
 * or have the same length and equal distances (rows of a matrix), share an entry.
 */

import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { crc32 } from "./crc32.ts";
import { explainedAsync } from "./io_error.ts";
import { type OutputPlace, placeOf } from "./output_place.ts";

/** Pieces of the same length at equal distances, in the order they were written. */
export interface WrittenBytes {
  /** Of the first piece. */
  readonly address: number;
  /** Of one piece. */
  readonly byteLength: number;
  /** From the begin of a piece to that of the next one. */
  readonly strideBytes: number;
  readonly count: number;
  /** Of all pieces, one after the other. */
  readonly crc32: number;
}

type Open = { -readonly [K in keyof WrittenBytes]: WrittenBytes[K] };

/** Entries that a write may continue: those of codes and scales that take turns. */
const CONTINUED = 2;

/** Records writes. */
export class WriteRecord {
  #entries: Open[] = [];

  /** Records that all of `view` was written at `address`. */
  add(view: Uint8Array, address: number): void {
    if (view.length === 0) return;
    for (const entry of this.#entries.slice(-CONTINUED)) {
      if (!continues(entry, address, view.length)) continue;
      entry.crc32 = crc32(view, entry.crc32);
      return;
    }
    const { length: byteLength } = view;
    this.#entries.push({
      address,
      byteLength,
      strideBytes: byteLength,
      count: 1,
      crc32: crc32(view),
    });
  }

  /** Returns the records since the last call. */
  take(): WrittenBytes[] {
    const entries = this.#entries;
    this.#entries = [];
    return entries;
  }
}

/** Lengthens `entry` by a write; returns false if it does not follow. */
function continues(entry: Open, address: number, byteLength: number): boolean {
  if (entry.count === 1 && address === entry.address + entry.byteLength) {
    entry.byteLength += byteLength;
    entry.strideBytes = entry.byteLength;
    return true;
  }
  if (entry.byteLength !== byteLength) return false;
  if (entry.count === 1 && address > entry.address) entry.strideBytes = address - entry.address;
  if (address !== entry.address + entry.count * entry.strideBytes) return false;
  entry.count++;
  return true;
}

/** Bytes that are read at a time. */
const STEP_BYTES = 4 << 20;

/** Reads output files back and compares. Close it. */
export class WrittenChecker implements AsyncDisposable {
  readonly #places: readonly OutputPlace[];
  readonly #files = new Map<string, FileHandle>();
  readonly #buffer = new Uint8Array(STEP_BYTES);

  constructor(places: readonly OutputPlace[]) {
    this.#places = places;
  }

  /**
   * Returns whether the files hold what was written.
   *
   * @throws Error if they cannot be read.
   */
  async holds(written: WrittenBytes): Promise<boolean> {
    const { address, byteLength, strideBytes, count } = written;
    // Short pieces are read with what lies between them.
    const together = Math.max(1, Math.floor(STEP_BYTES / strideBytes));
    let crc = 0;
    for (let first = 0; first < count; first += together) {
      const pieces = Math.min(together, count - first);
      const end = (pieces - 1) * strideBytes + byteLength;
      const begin = address + first * strideBytes;
      for (let done = 0; done < end;) {
        const bytes = await this.#read(begin + done, Math.min(STEP_BYTES, end - done));
        if (bytes === null) return false;
        if (pieces === 1) crc = crc32(bytes, crc);
        else {
          for (let piece = 0; piece < pieces; piece++) {
            const at = piece * strideBytes;
            crc = crc32(bytes.subarray(at, at + byteLength), crc);
          }
        }
        done += bytes.length;
      }
    }
    return crc === written.crc32;
  }

  /** Returns all bytes asked for; null if the file ends before. */
  async #read(address: number, byteLength: number): Promise<Uint8Array | null> {
    const { path, startBytes } = this.#places[placeOf(this.#places, address)]!;
    return await explainedAsync(`Cannot read ${JSON.stringify(path)}`, async () => {
      const file = this.#files.get(path) ?? await open(path, "r");
      this.#files.set(path, file);
      for (let done = 0; done < byteLength;) {
        const at = address - startBytes + done;
        const { bytesRead } = await file.read(this.#buffer, done, byteLength - done, at);
        if (bytesRead === 0) return null;
        done += bytesRead;
      }
      return this.#buffer.subarray(0, byteLength);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#files.values()) await file.close();
  }
}
