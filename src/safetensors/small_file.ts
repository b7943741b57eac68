/** Files that are read whole: configs, indexes, statistics as JSON. */

import { readFileSync, statSync } from "node:fs";

/**
 * Returns the bytes of a file.
 *
 * @throws Error if it is no regular file: opening a pipe waits for its writer, and a device may never end;
 *   what `node:fs` throws if it cannot be read.
 */
export function readSmallFile(path: string): Uint8Array<ArrayBuffer> {
  if (!statSync(path).isFile()) throw new Error("it is not a regular file");
  return new Uint8Array(readFileSync(path));
}

/** Returns the bytes of a file; null: there is none of this name. @throws as {@link readSmallFile}. */
export function readIfThere(path: string): Uint8Array<ArrayBuffer> | null {
  try {
    return readSmallFile(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}
