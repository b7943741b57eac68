/** Parts of Node that the program uses and that no conversion in a page needs. */

import { FileError } from "../files/random_access_file.ts";

/** Returns a function that fails, naming what is not there. */
export function absent(name: string): () => never {
  return () => {
    throw new FileError("ENOSYS", `a page cannot do this (${name}): use the program`);
  };
}
