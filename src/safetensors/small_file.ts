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
