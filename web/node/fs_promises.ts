/** The parts of `node:fs/promises` that the program uses: a page needs none of it. */

import { FileError } from "../files/random_access_file.ts";

/** An open file; only the type is used. */
export type FileHandle = never;

export function open(): Promise<FileHandle> {
  return Promise.reject(new FileError("ENOSYS", "a page does not do this: use the program"));
}
