/** Writing by position. */

import { writeSync } from "node:fs";
import { MAX_IO_BYTES } from "./input_files.ts";

/**
 * Writes all of `view` to a file from `positionBytes` on.
 *
 * @param fd a file open for writing.
 * @param view any length, 0 included; may lie in shared memory.
 * @throws what `node:fs` throws if writing fails (`ENOSPC`: the disk is full).
 */
export function writeExactly(fd: number, view: Uint8Array, positionBytes: number): void {
  let done = 0;
  while (done < view.length) {
    const wanted = Math.min(view.length - done, MAX_IO_BYTES);
    done += writeSync(fd, view, done, wanted, positionBytes + done);
  }
}
