/** The name under which a file is read: a path, or a file on a server with the channel it comes through. */

import type { RemotePath } from "./channel.ts";

/** A file to be read. */
export type InputPath = string | RemotePath;

/** Returns what messages call a file. */
export function nameOfInput(path: InputPath): string {
  return typeof path === "string" ? path : path.name;
}
