/**
 * Whether a file on a server is still the one that was read, if the server gives it neither an ETag nor a
 * date: bytes at places all over it are fetched before the work and after it, and compared. Its size is
 * compared in every answer.
 */

import type { KnownFile } from "./block_store.ts";
import type { PersistOptions } from "./patience.ts";
import { readRemoteRange } from "./range_request.ts";
import { Redirects } from "./redirects.ts";
import { RemoteError } from "./remote_error.ts";

/** Places that are looked at, and bytes at each of them. */
const PLACES = 16, PLACE_BYTES = 4096;

/** Whether nothing that a server says tells one version of a file from another. */
export function isVersionless({ version: { etag, lastModified, hasParts } }: KnownFile): boolean {
  // A file without parts is downloaded in one answer, whose bytes are of one version.
  return hasParts && etag === null && lastModified === null;
}

/**
 * Looks at files, and returns what looks a second time.
 *
 * @returns throws RemoteError if a file is not as it was; what `readRemoteRange` throws.
 */
export async function lookAt(
  files: readonly KnownFile[],
  options: PersistOptions,
): Promise<() => Promise<void>> {
  const first = await Promise.all(files.map((known) => sample(known, options)));
  return async () => {
    for (const [i, known] of files.entries()) {
      const now = await sample(known, options);
      if (now.every((byte, at) => byte === first[i]![at])) continue;
      throw new RemoteError({
        name: known.file.name,
        offsetBytes: null,
        rule: "the file on the server has changed while it was read: start again",
        isTemporary: false,
      });
    }
  };
}

async function sample({ file, version }: KnownFile, options: PersistOptions): Promise<Uint8Array> {
  const found: number[] = [];
  const step = Math.max(PLACE_BYTES, Math.ceil(version.bytes / PLACES));
  for (let begin = 0; begin < version.bytes; begin += step) {
    const range = { begin, end: Math.min(version.bytes, begin + PLACE_BYTES) };
    const take = (bytes: Uint8Array) => void found.push(...bytes);
    await readRemoteRange(file, range, take, {
      ...options,
      version,
      redirects: new Redirects(),
    });
  }
  return Uint8Array.from(found);
}
