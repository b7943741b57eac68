/** Files of the parts of an output: hashed, copied with their hashes checked, found in a folder. */

import { createHash } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { InterruptedError } from "../core/errors.ts";
import { codeOf, explained, explainedAsync } from "./io_error.ts";
import { readSmallFile } from "./small_file.ts";

/** Bytes that are hashed or copied at a time. */
const STEP_BYTES = 4 << 20;

/** Bytes of a file. */
export interface Range {
  readonly offsetBytes: number;
  readonly byteLength: number;
}

/** Bytes of a file, and what they are. */
export interface HashedRange extends Range {
  /** Hexadecimal. */
  readonly sha256: string;
}

/** Returns the hash of every range; a range beyond the end has that of what is there. */
export async function hashRanges(path: string, ranges: readonly Range[]): Promise<string[]> {
  return await explainedAsync(`Cannot read ${JSON.stringify(path)}`, async () => {
    const file = await open(path, "r");
    try {
      const hashes: string[] = [];
      const buffer = new Uint8Array(STEP_BYTES);
      for (const range of ranges) hashes.push(await hashRange(file, range, buffer));
      return hashes;
    } finally {
      await file.close();
    }
  });
}

async function hashRange(
  file: FileHandle,
  { offsetBytes, byteLength }: Range,
  buffer: Uint8Array,
): Promise<string> {
  const hash = createHash("sha256");
  for (let done = 0; done < byteLength;) {
    const wanted = Math.min(buffer.length, byteLength - done);
    const { bytesRead } = await file.read(buffer, 0, wanted, offsetBytes + done);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
  return hash.digest("hex");
}

/** Copies ranges between files that stay open until it is disposed. */
export class RangeCopier implements AsyncDisposable {
  readonly #sources = new Map<string, FileHandle>();
  readonly #targets = new Map<string, FileHandle>();
  readonly #buffers = [new Uint8Array(STEP_BYTES), new Uint8Array(STEP_BYTES)] as const;

  /**
   * Copies `range` of `source` to `position` of `target`; the next bytes are read while the last ones are
   * written. Returns whether they have the hash: if not, what was written is worth nothing.
   *
   * @throws InterruptedError if `signal` aborts; Error if reading or writing fails.
   */
  async copy(
    source: string,
    range: HashedRange,
    { target, position, signal }: {
      target: string;
      position: number;
      signal: AbortSignal | undefined;
    },
  ): Promise<boolean> {
    const from = await opened(this.#sources, source, "r");
    const to = await opened(this.#targets, target, "r+");
    const hash = createHash("sha256"), { offsetBytes, byteLength } = range;
    let writing: Promise<void> = Promise.resolve();
    for (let done = 0, turn: 0 | 1 = 0; done < byteLength; turn = turn === 0 ? 1 : 0) {
      const buffer = this.#buffers[turn];
      const wanted = Math.min(buffer.length, byteLength - done);
      const { bytesRead } = await explainedAsync(
        `Cannot read ${JSON.stringify(source)}`,
        () => from.read(buffer, 0, wanted, offsetBytes + done),
      );
      await writing;
      if (signal?.aborted) throw new InterruptedError();
      if (bytesRead === 0) return false;
      const bytes = buffer.subarray(0, bytesRead);
      writing = writeAll(to, bytes, position + done);
      // Awaited in the next step: a failure before that is no unhandled one.
      writing.catch(() => {});
      hash.update(bytes);
      done += bytesRead;
    }
    await writing;
    return hash.digest("hex") === range.sha256;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of [...this.#sources.values(), ...this.#targets.values()]) await file.close();
  }
}

async function opened(
  files: Map<string, FileHandle>,
  path: string,
  flags: string,
): Promise<FileHandle> {
  const known = files.get(path);
  if (known !== undefined) return known;
  const file = await explainedAsync(
    `Cannot open ${JSON.stringify(path)}`,
    () => open(path, flags),
  );
  files.set(path, file);
  return file;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  await explainedAsync("Cannot write the output", async () => {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
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
