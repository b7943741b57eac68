/** The parts of `node:fs/promises` that the program uses: nothing that a page does needs it. */

import { FileError } from "../files/random_access_file.ts";

/** A file that is open, of which only the type is used here. */
export type FileHandle = never;

export function open(): Promise<FileHandle> {
  return Promise.reject(new FileError("ENOSYS", "a page does not do this: use the program"));
}
