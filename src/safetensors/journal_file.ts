/**
 * A file of records that are only ever appended, each with its length and checksum, durable once
 * `append` has returned. Records that a crash cut off or tore are not read back: records count up to the first
 * that is not whole.
 */

import { createHash } from "node:crypto";
import { closeSync, fsync, ftruncateSync, openSync, rmSync } from "node:fs";
import { promisify } from "node:util";
import { codeOf, explained, explainedAsync } from "./io_error.ts";
import { readSmallFile } from "./small_file.ts";
import { writeExactly } from "./write_exactly.ts";

const fsyncAsync = promisify(fsync);

/** Before every payload: its length, u32, and the first bytes of the SHA-256 of length and payload. */
const LENGTH_BYTES = 4, CHECK_BYTES = 8, HEAD_BYTES = LENGTH_BYTES + CHECK_BYTES;

/** Returns a payload as a record: length, checksum, payload; little-endian. */
export function encodeRecord(payload: Uint8Array): Uint8Array {
  const record = new Uint8Array(HEAD_BYTES + payload.length);
  new DataView(record.buffer).setUint32(0, payload.length, true);
  record.set(checkOf(record.subarray(0, LENGTH_BYTES), payload), LENGTH_BYTES);
  record.set(payload, HEAD_BYTES);
  return record;
}

/** Returns the payloads of the whole records that `bytes` begins with, and where they end. */
export function decodeRecords(bytes: Uint8Array): { payloads: Uint8Array[]; endBytes: number } {
  const payloads: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let endBytes = 0;
  while (endBytes + HEAD_BYTES <= bytes.length) {
    const begin = endBytes + HEAD_BYTES;
    const end = begin + view.getUint32(endBytes, true);
    if (end > bytes.length) break;
    const payload = bytes.subarray(begin, end);
    const length = bytes.subarray(endBytes, endBytes + LENGTH_BYTES);
    const check = bytes.subarray(endBytes + LENGTH_BYTES, begin);
    if (!checkOf(length, payload).every((byte, i) => byte === check[i])) break;
    payloads.push(payload);
    endBytes = end;
  }
  return { payloads, endBytes };
}

function checkOf(length: Uint8Array, payload: Uint8Array): Uint8Array {
  return createHash("sha256").update(length).update(payload).digest().subarray(0, CHECK_BYTES);
}

/** Returns the whole records of a file; null if there is no file. */
export function readJournal(path: string): { payloads: Uint8Array[]; endBytes: number } | null {
  return explained(`Cannot read ${JSON.stringify(path)}`, () => {
    try {
      return decodeRecords(readSmallFile(path));
    } catch (error) {
      if (codeOf(error) === "ENOENT") return null;
      throw error;
    }
  });
}

/** Removes a journal, if there is one. */
export function removeJournal(path: string): void {
  explained(`Cannot remove ${JSON.stringify(path)}`, () => rmSync(path, { force: true }));
}

/** A journal that is written. Close it. */
export class JournalFile {
  readonly #path: string;
  readonly #fd: number;
  #endBytes: number;

  private constructor(path: string, fd: number, endBytes: number) {
    this.#path = path;
    this.#fd = fd;
    this.#endBytes = endBytes;
  }

  /** Returns a new, empty one; a file of that name goes. */
  static create(path: string): JournalFile {
    const fd = explained(`Cannot write ${JSON.stringify(path)}`, () => {
      rmSync(path, { force: true });
      return openSync(path, "wx+");
    });
    return new JournalFile(path, fd, 0);
  }

  /** Continues one behind its whole records, see {@link readJournal}; what comes after them goes. */
  static goOn(path: string, endBytes: number): JournalFile {
    const fd = explained(`Cannot write ${JSON.stringify(path)}`, () => {
      const fd = openSync(path, "r+");
      ftruncateSync(fd, endBytes);
      return fd;
    });
    return new JournalFile(path, fd, endBytes);
  }

  /** Appends records; they are durable when this returns. */
  async append(payloads: readonly Uint8Array[]): Promise<void> {
    await explainedAsync(`Cannot write ${JSON.stringify(this.#path)}`, async () => {
      for (const payload of payloads) {
        const record = encodeRecord(payload);
        writeExactly(this.#fd, record, this.#endBytes);
        this.#endBytes += record.length;
      }
      await fsyncAsync(this.#fd);
    });
  }

  close(): void {
    closeSync(this.#fd);
  }
}
