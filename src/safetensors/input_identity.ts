/** Identity of a file, to find out without reading whether it is the one that was read before. */

import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { InputPath } from "../remote/input_path.ts";
import { explained } from "./io_error.ts";

/** A file and its state. */
export interface InputIdentity {
  /** Its place: the whole path, or the address. */
  readonly place: string;
  readonly bytes: number;
  /** Mark that changes with its contents: the time of its last change in milliseconds, or what a server says. */
  readonly version: string;
}

/**
 * Returns the identity of an input. A file has its size and time of change, a file on a server its size
 * and ETag.
 */
export function inputIdentity(path: InputPath): InputIdentity {
  if (typeof path !== "string") {
    return { place: path.name, bytes: path.bytes, version: path.stamp };
  }
  const stats = explained(`Cannot open ${JSON.stringify(path)}`, () => statSync(path));
  return { place: resolve(path), bytes: stats.size, version: String(stats.mtimeMs) };
}
